package installer

import (
	"fmt"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/ashlar-os/ashlar/internal/progress"
)

// The size of the smallest terminal, and of those that do not tell theirs.
const (
	width  = 80
	height = 24
)

// View implements [tea.Model].
func (m *Model) View() tea.View {
	v := tea.NewView(m.draw())
	v.AltScreen = true
	return v
}

// draw is the whole screen: at most 24 lines of at most 79 columns.
func (m *Model) draw() string {
	title, body, keys := m.content()
	lines := []string{"Ashlar  -  install " + m.backend.Release, strings.Repeat("=", width-1), "", title, ""}
	for _, line := range body {
		lines = append(lines, wrap(line, width-3)...)
	}
	if m.wrong != "" {
		lines = append(lines, "")
		lines = append(lines, wrap("! "+m.wrong, width-3)...)
	}
	if len(lines) > height-3 { // the beginning says what it is about, the end what to do
		end := lines[len(lines)-2:]
		lines = append(append(slices.Clone(lines[:height-6]), "  ..."), end...)
	}
	for len(lines) < height-2 {
		lines = append(lines, "")
	}
	return strings.Join(append(lines, keys), "\n")
}

const moveKeys = "Up/Down: choose   Enter: go on   Ctrl-C: leave"
const formKeys = "Enter, Tab: next   Esc: back   Ctrl-U: empty the line   Ctrl-C: leave"

// content is what a page says, and its keys.
func (m *Model) content() (title string, body []string, keys string) {
	switch m.page {
	case pageDisk:
		return "1 of 5  Which disk?", m.drawDisks(), moveKeys
	case pageKeep:
		return "1 of 5  There is an Ashlar on this disk", choice(m.keep,
			"keep /var with the home directories, and replace the system",
			"start over: everything on the disk is lost"), moveKeys + "   Esc: back"
	case pageVar:
		return "1 of 5  Should /var, with the home directories, have a disk of its own?", m.drawVar(), moveKeys + "   Esc: back"
	case pageLanguage:
		return "2 of 5  Language, keyboard, time zone", m.form.lines(width), formKeys
	case pageName:
		return "3 of 5  What is this machine called?", m.form.lines(width), formKeys
	case pageUser:
		return "4 of 5  Who uses it? (root stays locked)", m.form.lines(width), formKeys
	case pageEncrypt:
		return "5 of 5  Encrypt the disk? The passphrase is asked for at every boot.", m.form.lines(width), formKeys
	case pagePlan:
		return m.drawPlan()
	case pageRun:
		return "Installing", m.drawProgress(), "It cannot be left now. A power cut leaves a disk that does not boot."
	default:
		return m.drawEnd()
	}
}

func choice(at int, words ...string) (lines []string) {
	for i, w := range words {
		mark := "  "
		if i == at {
			mark = "> "
		}
		lines = append(lines, mark+w)
	}
	return lines
}

func (m *Model) drawDisks() (lines []string) {
	if len(m.backend.Disks) == 0 {
		return []string{"This computer has no disk that its system knows."}
	}
	for i, d := range m.backend.Disks {
		mark := "  "
		switch {
		case i == m.disk:
			mark = "> "
		case d.Refused != "":
			mark = "x "
		}
		lines = append(lines, mark+d.Describe())
		if d.Refused != "" {
			lines = append(lines, "    not taken: "+d.Refused)
		} else {
			lines = append(lines, "    "+d.ID)
		}
	}
	return lines
}

func (m *Model) drawPlan() (string, []string, string) {
	if m.plan == nil {
		return "This cannot be done", nil, "Enter: try again   Esc: back   Ctrl-C: leave"
	}
	body := m.plan.Lines()
	if want := m.mustType(); want != "" {
		return "This will be done. Nothing was touched yet.",
			append(body, "", fmt.Sprintf("Type %s, %s, to agree: %s_", nameOfDisks(want), want, m.typed)), "Enter: install   Esc: back   Ctrl-C: leave"
	}
	return "This will be done. Nothing was touched yet.", body, "Enter: install   Esc: back   Ctrl-C: leave"
}

func (m *Model) drawProgress() []string {
	const bar = 60
	lines := []string{m.stage}
	if m.total <= 0 {
		return lines
	}
	done := min(m.done, m.total)
	full := int(done * bar / m.total)
	text := fmt.Sprintf("%d of %d", done, m.total)
	if m.unit == progress.Bytes {
		text = fmt.Sprintf("%d of %d MB", done/1e6, m.total/1e6)
	}
	return append(lines, "", "["+strings.Repeat("#", full)+strings.Repeat(".", bar-full)+"] "+fmt.Sprintf("%d %%", done*100/m.total), text)
}

func (m *Model) drawEnd() (string, []string, string) {
	if m.failed != nil {
		return "It failed", []string{sentence(m.failed), "", "The medium is as it was, and can install again."}, "Enter: begin again"
	}
	body := m.result.Report.Lines()
	if key := m.result.RecoveryKey; key != "" {
		body = append(body, "", "Recovery key of the encrypted disk. It opens the disk when the passphrase is",
			"forgotten. Write it down: it is kept nowhere, and shown this once.", "", "  "+key)
	}
	return "Done", body, "Remove the medium.   Enter: restart"
}

// wrap breaks a line between words. What follows is indented as the line was.
func wrap(s string, n int) (lines []string) {
	indent := s[:len(s)-len(strings.TrimLeft(s, " "))]
	for len([]rune(s)) > n {
		r := []rune(s)
		cut := n
		for i := n; i > n/2; i-- {
			if r[i] == ' ' {
				cut = i
				break
			}
		}
		lines = append(lines, string(r[:cut]))
		s = indent + "  " + strings.TrimLeft(string(r[cut:]), " ")
	}
	return append(lines, s)
}
