package installer

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/ashlar-os/ashlar/internal/machine/install"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// user is somebody at the terminal.
type user struct {
	t       *testing.T
	m       *Model
	planned []install.Answers // what was asked to be planned, in order
	run     int
	fails   error // what Run ends with
}

func newUser(t *testing.T, disks ...install.Disk) *user {
	u := &user{t: t}
	u.m = New(Backend{
		Release: "server-1.0.0", Disks: disks,
		Plan: func(a *install.Answers) (*install.Plan, error) {
			u.planned = append(u.planned, *a)
			i := slices.IndexFunc(disks, func(d install.Disk) bool { return d.ID == a.Disk.ID })
			plan := &install.Plan{Disk: disks[i], Mode: install.Blank, Release: install.Release{ID: "server-1.0.0"}}
			switch {
			case a.System.Timezone == "Europe/Atlantis":
				return nil, errors.New(`the image has no time zone "Europe/Atlantis"`)
			case a.Disk.KeepVar:
				plan.Mode = install.KeepVar
			case disks[i].Content != "":
				plan.Mode = install.Erase
			}
			if i := slices.IndexFunc(disks, func(d install.Disk) bool { return d.ID == a.Var.Disk }); i >= 0 {
				plan.Var = &install.PlanVar{Disk: disks[i], Mode: install.Blank}
				if disks[i].Content != "" {
					plan.Var.Mode = install.Erase
				}
			}
			return plan, nil
		},
		Run: func(plan *install.Plan, p progress.Reporter) (*install.Result, error) {
			u.run++
			p.Stage("fetching objects", 1000, progress.Bytes)
			p.Add(500)
			if u.fails != nil {
				return nil, u.fails
			}
			return &install.Result{
				RecoveryKey: "cbdefghi-jklnrtuv",
				Report:      install.Report{Plan: plan, Verified: &install.Verified{Equal: true}, Started: time.Unix(0, 0)},
			}, nil
		},
	}, install.Answers{})
	return u
}

// press presses keys by name, and types what is no name of a key. It runs what the
// model starts, and shows every screen to the test of size.
func (u *user) press(words ...string) tea.Cmd {
	u.t.Helper()
	var last tea.Cmd
	for _, w := range words {
		keys := []tea.KeyPressMsg{}
		if code, ok := map[string]rune{
			"<enter>": tea.KeyEnter, "<esc>": tea.KeyEscape, "<tab>": tea.KeyTab, "<up>": tea.KeyUp, "<down>": tea.KeyDown, "<back>": tea.KeyBackspace,
		}[w]; ok {
			keys = append(keys, tea.KeyPressMsg{Code: code})
		} else {
			for _, r := range w {
				keys = append(keys, tea.KeyPressMsg{Code: r, Text: string(r)})
			}
		}
		for _, k := range keys {
			_, last = u.m.Update(k)
			u.fits()
		}
	}
	return last
}

// fits checks that the screen fits on the smallest terminal.
func (u *user) fits() {
	u.t.Helper()
	lines := strings.Split(u.m.draw(), "\n")
	if len(lines) > height {
		u.t.Fatalf("%d lines:\n%s", len(lines), u.m.draw())
	}
	for _, line := range lines {
		if n := len([]rune(line)); n >= width {
			u.t.Fatalf("a line of %d columns: %q", n, line)
		}
	}
}

// sees checks what the screen says.
func (u *user) sees(words ...string) {
	u.t.Helper()
	screen := strings.Join(strings.Fields(u.m.draw()), " ")
	for _, w := range words {
		if !strings.Contains(screen, w) {
			u.t.Fatalf("the screen lacks %q:\n%s", w, u.m.draw())
		}
	}
}

// finish runs what start gave.
func (u *user) finish(cmd tea.Cmd) {
	u.t.Helper()
	if cmd == nil {
		u.t.Fatalf("nothing was started:\n%s", u.m.draw())
	}
	u.m.Update(cmd())
	u.fits()
}

var (
	empty  = install.Disk{ID: "virtio-one", Name: "vda", Path: "/dev/vda", Size: 20e9, Serial: "one"}
	full   = install.Disk{ID: "virtio-two", Name: "vdb", Path: "/dev/vdb", Size: 20e9, Serial: "two", Content: "a partition table with 3 partitions"}
	medium = install.Disk{ID: "usb-stick", Name: "sda", Path: "/dev/sda", Size: 8e9, Content: "an Ashlar medium", Refused: "it is the medium that this computer was started from"}
	ashlar = install.Disk{ID: "virtio-three", Name: "vdc", Path: "/dev/vdc", Size: 20e9, Content: "a partition table with 2 partitions", Ashlar: true}
)

// Five questions, and what was typed is what is planned and installed.
func TestFiveQuestions(t *testing.T) {
	u := newUser(t, medium, empty, full)
	u.sees("1 of 5 Which disk?", "> /dev/vda: 20 GB", "x /dev/sda", "it is the medium that this computer was started from")
	u.press("<enter>")
	u.sees("1 of 5 Should /var", "> no: /var is on the same disk as the system", "/dev/vdb")
	u.press("<enter>")
	u.sees("2 of 5")
	u.press("de_DE.UTF-8", "<enter>", "de", "<tab>", "Europe/Berlin", "<enter>")
	u.sees("3 of 5")
	u.press("box", "<enter>")
	u.sees("4 of 5")
	u.press("ada", "<enter>", "Ada Lovelace", "<enter>", "secret word", "<enter>", "secret word", "<enter>", "<enter>")
	if strings.Contains(u.m.draw(), "secret") {
		t.Errorf("the password is on the screen:\n%s", u.m.draw())
	}
	u.sees("5 of 5")
	u.press("horse", "<enter>", "horse", "<enter>")
	u.sees("This will be done. Nothing was touched yet.", "server-1.0.0")
	if u.run > 0 {
		t.Fatal("it has begun already")
	}
	u.finish(u.press("<enter>"))
	u.sees("Done", "cbdefghi-jklnrtuv", "They are equal.")
	a := u.planned[len(u.planned)-1]
	if a.Disk.ID != "virtio-one" || a.Var != (install.VarAnswer{}) || a.System != (install.System{Hostname: "box", Locale: "de_DE.UTF-8", Keyboard: "de", Timezone: "Europe/Berlin"}) ||
		a.User.Name != "ada" || a.User.FullName != "Ada Lovelace" || a.User.Password != "secret word" || a.User.SSHKeys != nil || a.Encryption.Passphrase != "horse" {
		t.Errorf("planned was %+v", a)
	}
	if r, err := u.m.Result(); u.run != 1 || r == nil || err != nil {
		t.Errorf("%d runs: %v, %v", u.run, r, err)
	}
}

// toPlan answers everything but the disk in the shortest way.
func (u *user) toPlan() {
	u.t.Helper()
	for u.m.page != pagePlan {
		before := u.m.page
		if before == pageVar {
			u.press("<enter>")
		}
		for range u.m.form.fields {
			u.press("<enter>")
		}
		if u.m.page == before {
			u.t.Fatalf("it does not go on:\n%s", u.m.draw())
		}
	}
}

// A disk with something on it is not touched before its name is typed.
func TestNameIsTyped(t *testing.T) {
	u := newUser(t, empty, full)
	u.press("<down>", "<enter>")
	u.toPlan()
	u.sees("Type the disk's name, vdb, to agree")
	for _, word := range []string{"", "vda", "vdbx"} {
		u.press(word)
		if cmd := u.press("<enter>"); cmd != nil {
			t.Fatalf("after typing %q it began", word)
		}
		u.sees("! To go on, type the disk's name: vdb")
		for range word {
			u.press("<back>")
		}
	}
	u.press("vdb")
	u.finish(u.press("<enter>"))
	u.sees("Done")
}

// What is refused cannot be chosen, and nothing is where nothing can be taken.
func TestRefusedDisk(t *testing.T) {
	u := newUser(t, empty, medium)
	u.press("<down>", "<down>", "<enter>")
	if u.m.answers.Disk.ID != empty.ID {
		t.Errorf("chosen was %q", u.m.answers.Disk.ID)
	}
	u = newUser(t, medium)
	u.press("<enter>")
	u.sees("There is no disk to install to.")
	u = newUser(t)
	u.sees("This computer has no disk")
}

// Of a disk with an Ashlar /var can be kept; the way back leads there, too.
func TestKeepVar(t *testing.T) {
	u := newUser(t, ashlar)
	u.press("<enter>")
	u.sees("There is an Ashlar on this disk", "> keep /var")
	u.press("<enter>")
	u.sees("2 of 5")
	u.press("<esc>")
	u.sees("There is an Ashlar on this disk")
	u.press("<enter>")
	u.toPlan()
	if a := u.planned[0]; !a.Disk.KeepVar || a.Disk.Erase != "" {
		t.Errorf("planned was %+v", a.Disk)
	}
	u = newUser(t, ashlar)
	u.press("<enter>", "<down>", "<enter>")
	u.toPlan()
	if a := u.planned[0]; a.Disk.KeepVar || a.Disk.Erase != ashlar.ID {
		t.Errorf("planned was %+v", a.Disk)
	}
}

// What cannot be right is said at once, on the page where it was typed.
func TestWrongWords(t *testing.T) {
	u := newUser(t, empty)
	u.press("<enter>", "deutsch bitte", "<enter>", "<enter>", "<enter>")
	u.sees("2 of 5", "! Field \"system.locale\"")
	u.m.answers.System.Locale = ""
	u.press("<enter>")
	u.sees("3 of 5")
	u.press("My Box", "<enter>")
	u.sees("3 of 5", "system.hostname")
	u.m.answers.System.Hostname = "box"
	u.press("<enter>", "ada", "<enter>", "<enter>", "one", "<enter>", "two", "<enter>", "<enter>")
	u.sees("4 of 5", "The two passwords differ.")
	u.press("<up>", "<back>", "<back>", "<back>", "one", "<enter>", "<enter>")
	u.sees("5 of 5")
	u.press("a", "<enter>", "b", "<enter>")
	u.sees("5 of 5", "The two passphrases differ.")
}

// A plan that cannot be made says why, and the way back is open.
func TestNoPlan(t *testing.T) {
	u := newUser(t, empty)
	u.m.answers.System.Timezone = "Europe/Atlantis"
	u.press("<enter>")
	u.toPlan()
	u.sees("This cannot be done", `no time zone "Europe/Atlantis"`)
	if cmd := u.press("<enter>"); cmd != nil || u.run > 0 {
		t.Error("it began all the same")
	}
	u.press("<esc>", "<esc>")
	u.sees("4 of 5")
}

func TestFailure(t *testing.T) {
	u := newUser(t, empty)
	u.fails = errors.New("preparing the disk: the disk /dev/vda is in use")
	u.press("<enter>")
	u.toPlan()
	u.finish(u.press("<enter>"))
	u.sees("It failed", "Preparing the disk: the disk /dev/vda is in use.")
	if _, err := u.m.Result(); !errors.Is(err, u.fails) {
		t.Errorf("error is %v", err)
	}
}

// Progress is drawn, and an installation is not ended by a slip of the fingers.
func TestProgress(t *testing.T) {
	u := newUser(t, empty)
	u.press("<enter>")
	u.toPlan()
	u.press("<enter>")
	u.m.Update(stageMsg{"fetching objects", 200e6, progress.Bytes})
	u.m.Update(addMsg(100e6))
	u.sees("fetching objects", "50 %", "100 of 200 MB")
	if _, cmd := u.m.Update(tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}); cmd != nil {
		t.Error("Ctrl-C ends it")
	}
}
