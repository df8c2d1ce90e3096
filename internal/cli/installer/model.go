package installer

import (
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/ashlar-os/ashlar/internal/machine/install"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// Backend is what the installer asks of the system.
type Backend struct {
	Release string // what will be installed, NAME-VERSION
	Disks   []install.Disk
	Plan    func(*install.Answers) (*install.Plan, error)
	// Run installs; it is called once, in a goroutine of its own.
	Run func(*install.Plan, progress.Reporter) (*install.Result, error)
}

// page is where somebody is.
type page int

const (
	pageDisk page = iota
	pageKeep      // only for a disk with an Ashlar
	pageVar       // only where another disk could hold /var
	pageLanguage
	pageName
	pageUser
	pageEncrypt
	pagePlan
	pageRun
	pageEnd
)

// Model is the state of the installer.
type Model struct {
	backend Backend
	answers install.Answers
	page    page
	disk    int // chosen on pageDisk
	keep    int // 0: keep /var, 1: start over
	vars    int // 0: /var has no disk of its own, else one of varDisks, from 1
	form    form
	wrong   string // what is wrong with what was typed, a sentence

	repeat, repeatPass string // typed the second time
	plan               *install.Plan
	typed              string // the names of disks, on pagePlan

	stage       string
	done, total int64
	unit        progress.Unit
	result      *install.Result
	failed      error
	send        func(tea.Msg) // to this model, from the installation
}

// New begins with answers that were given already, such as a disk on the command line.
func New(b Backend, a install.Answers) *Model {
	m := &Model{backend: b, answers: a, send: func(tea.Msg) {}}
	m.answers.Schema = install.AnswersSchema
	m.disk = -1
	for i, d := range b.Disks {
		if d.Refused == "" && (a.Disk.ID == "" || d.IsNamed(a.Disk.ID)) {
			m.disk = i // a cursor has to be somewhere; nothing happens before the plan is agreed to
			break
		}
	}
	return m
}

// Init implements [tea.Model].
func (m *Model) Init() tea.Cmd { return nil }

// Result is what came of it; nil, nil when it was left before anything was done.
func (m *Model) Result() (*install.Result, error) { return m.result, m.failed }

// Messages of the installation.
type (
	stageMsg struct {
		name  string
		total int64
		unit  progress.Unit
	}
	addMsg int64
	endMsg struct {
		result *install.Result
		err    error
	}
)

// Update implements [tea.Model].
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case stageMsg:
		m.stage, m.total, m.unit, m.done = msg.name, msg.total, msg.unit, 0
	case addMsg:
		m.done += int64(msg)
	case endMsg:
		m.result, m.failed, m.page = msg.result, msg.err, pageEnd
	case tea.KeyPressMsg:
		return m, m.key(msg)
	}
	return m, nil
}

// key is a key that was pressed.
func (m *Model) key(k tea.KeyPressMsg) tea.Cmd {
	if k.String() == "ctrl+c" && m.page != pageRun { // an installation is not ended by a slip
		return tea.Quit
	}
	m.wrong = ""
	switch m.page {
	case pageDisk:
		m.keyDisk(k)
	case pageKeep:
		m.keyKeep(k)
	case pageVar:
		m.keyVar(k)
	case pagePlan:
		return m.keyPlan(k)
	case pageRun:
	case pageEnd:
		if k.String() == "enter" {
			return tea.Quit
		}
	default:
		switch m.form.key(k) {
		case formNext:
			m.leave()
		case formBack:
			m.back()
		}
	}
	return nil
}

func (m *Model) keyDisk(k tea.KeyPressMsg) {
	switch k.String() {
	case "up", "ctrl+p", "shift+tab":
		m.move(-1)
	case "down", "ctrl+n", "tab":
		m.move(1)
	case "enter":
		if m.disk < 0 {
			m.wrong = "There is no disk to install to."
			return
		}
		d := m.backend.Disks[m.disk]
		m.answers.Disk = install.DiskAnswer{ID: d.ID}
		if d.Ashlar {
			m.enter(pageKeep)
		} else {
			m.enter(m.afterDisk())
		}
	}
}

// move goes to the next disk that may be taken.
func (m *Model) move(by int) {
	for i := m.disk + by; i >= 0 && i < len(m.backend.Disks); i += by {
		if m.backend.Disks[i].Refused == "" {
			m.disk = i
			return
		}
	}
}

func (m *Model) keyKeep(k tea.KeyPressMsg) {
	switch k.String() {
	case "up", "down", "ctrl+p", "ctrl+n", "tab", "shift+tab":
		m.keep = 1 - m.keep
	case "esc":
		m.enter(pageDisk)
	case "enter":
		m.answers.Disk.KeepVar = m.keep == 0
		m.enter(m.afterDisk())
	}
}

// enter shows a page.
func (m *Model) enter(p page) {
	m.page = p
	a := &m.answers
	switch p {
	case pageVar:
		m.enterVar()
	case pageLanguage:
		m.form = newForm(
			field{label: "Language", value: &a.System.Locale, hint: "such as de_DE.UTF-8; empty: as the image has it"},
			field{label: "Keyboard", value: &a.System.Keyboard, hint: "such as de or us"},
			field{label: "Time zone", value: &a.System.Timezone, hint: "such as Europe/Berlin"})
	case pageName:
		m.form = newForm(field{label: "Host name", value: &a.System.Hostname, hint: "small letters, digits and dashes"})
	case pageUser:
		m.repeat = ""
		m.form = newForm(
			field{label: "Login name", value: &a.User.Name, hint: "such as ada; empty: no user is made"},
			field{label: "Full name", value: &a.User.FullName},
			field{label: "Password", value: &a.User.Password, secret: true, hint: "empty: by SSH key alone"},
			field{label: "Once more", value: &m.repeat, secret: true},
			field{label: "SSH key", value: m.sshKey(), hint: "a line such as ssh-ed25519 AAAA...; may be empty"})
	case pageEncrypt:
		m.repeatPass = ""
		hint := "empty: the disk is not encrypted"
		if a.Disk.KeepVar {
			hint = "the one that the disk has; empty: it is not encrypted"
		}
		m.form = newForm(
			field{label: "Passphrase", value: &a.Encryption.Passphrase, secret: true, hint: hint},
			field{label: "Once more", value: &m.repeatPass, secret: true})
	case pagePlan:
		m.typed = ""
		m.makePlan()
	}
}

// sshKey is the one key that can be typed; a file may have more.
func (m *Model) sshKey() *string {
	u := &m.answers.User
	if len(u.SSHKeys) == 0 {
		u.SSHKeys = []string{""}
	}
	return &u.SSHKeys[0]
}

// leave goes on from a form, when what was typed can be right.
func (m *Model) leave() {
	u := &m.answers.User
	switch {
	case m.page == pageUser && u.Password != m.repeat:
		m.wrong = "The two passwords differ."
		return
	case m.page == pageEncrypt && m.answers.Encryption.Passphrase != m.repeatPass:
		m.wrong = "The two passphrases differ."
		return
	}
	a := m.given()
	if m.page < pageUser {
		a.User = install.User{} // not asked yet
	}
	if err := a.Check(); err != nil {
		m.wrong = sentence(err)
		return
	}
	m.enter(m.page + 1)
}

// given are the answers without what was left empty.
func (m *Model) given() install.Answers {
	a := m.answers
	if len(a.User.SSHKeys) == 1 && strings.TrimSpace(a.User.SSHKeys[0]) == "" {
		a.User.SSHKeys = nil
	}
	return a
}

func (m *Model) back() {
	switch {
	case m.page == pageLanguage && m.afterDisk() == pageVar:
		m.enter(pageVar)
	case m.page == pageLanguage && m.backend.Disks[m.disk].Ashlar:
		m.enter(pageKeep)
	case m.page == pageLanguage:
		m.enter(pageDisk)
	default:
		m.enter(m.page - 1)
	}
}

// makePlan plans with leave to erase: whether that is given is asked on the page
// that shows the plan.
func (m *Model) makePlan() {
	a := m.given()
	if !a.Disk.KeepVar {
		a.Disk.Erase = a.Disk.ID
	}
	a.Var.Erase = a.Var.Disk
	var err error
	if m.plan, err = m.backend.Plan(&a); err != nil {
		m.plan, m.wrong = nil, sentence(err)
	}
}

// mustType is what to type before the plan is walked, the name of each disk that
// something is lost from; empty: Enter is enough.
func (m *Model) mustType() string {
	var names []string
	if m.plan != nil && m.plan.Mode != install.Blank {
		names = append(names, m.plan.Disk.Name)
	}
	if m.plan != nil && m.plan.Var != nil && m.plan.Var.Mode != install.Blank {
		names = append(names, m.plan.Var.Disk.Name)
	}
	return strings.Join(names, " ")
}

// nameOfDisks is what mustType asks for, in words.
func nameOfDisks(names string) string {
	if strings.Contains(names, " ") {
		return "the names of the disks"
	}
	return "the disk's name"
}

func (m *Model) keyPlan(k tea.KeyPressMsg) tea.Cmd {
	switch k.String() {
	case "esc":
		m.enter(pageEncrypt)
	case "backspace", "ctrl+h":
		if m.typed != "" {
			m.typed = m.typed[:len(m.typed)-1]
		}
	case "enter":
		switch want := m.mustType(); {
		case m.plan == nil:
			m.makePlan()
		case want != "" && m.typed != want:
			m.wrong = fmt.Sprintf("To go on, type %s: %s", nameOfDisks(want), want)
		default:
			return m.start()
		}
	default:
		if text := k.Key().Text; len(text) == 1 && text >= " " && len(m.typed) < 60 {
			m.typed += text
		}
	}
	return nil
}

// start begins the installation.
func (m *Model) start() tea.Cmd {
	m.page, m.stage = pageRun, "beginning"
	plan, run, r := m.plan, m.backend.Run, &reporter{send: m.send}
	return func() tea.Msg {
		result, err := run(plan, r)
		return endMsg{result, err}
	}
}

// sentence makes a sentence of an error.
func sentence(err error) string {
	s := err.Error()
	return strings.ToUpper(s[:1]) + s[1:] + "."
}
