package installer

import (
	tea "charm.land/bubbletea/v2"

	"github.com/ashlar-os/ashlar/internal/machine/install"
)

// Whether /var gets a disk of its own belongs to the first question, and is asked only
// where it could: another disk is there, and no /var is kept. The answer is no until
// somebody moves the cursor.

// varDisks are the disks that could hold /var.
func (m *Model) varDisks() (disks []install.Disk) {
	if m.disk < 0 {
		return nil
	}
	for _, d := range m.backend.Disks {
		if d.CanHoldVar(&m.backend.Disks[m.disk]) {
			disks = append(disks, d)
		}
	}
	return disks
}

// afterDisk is the page that follows when the disk is chosen, and what of it is kept.
func (m *Model) afterDisk() page {
	if !m.answers.Disk.KeepVar && len(m.varDisks()) > 0 {
		return pageVar
	}
	m.answers.Var = install.VarAnswer{}
	return pageLanguage
}

// enterVar puts the cursor on what was chosen before, or given on the command line.
func (m *Model) enterVar() {
	m.vars = 0
	for i, d := range m.varDisks() {
		if d.IsNamed(m.answers.Var.Disk) {
			m.vars = i + 1
		}
	}
}

func (m *Model) keyVar(k tea.KeyPressMsg) {
	disks := m.varDisks()
	switch k.String() {
	case "up", "ctrl+p", "shift+tab":
		m.vars = max(m.vars-1, 0)
	case "down", "ctrl+n", "tab":
		m.vars = min(m.vars+1, len(disks))
	case "esc":
		m.enter(pageDisk)
		if m.backend.Disks[m.disk].Ashlar {
			m.enter(pageKeep)
		}
	case "enter":
		m.answers.Var = install.VarAnswer{}
		if m.vars > 0 {
			m.answers.Var.Disk = disks[m.vars-1].ID
		}
		m.enter(pageLanguage)
	}
}

func (m *Model) drawVar() (lines []string) {
	mark := func(i int) string {
		if i == m.vars {
			return "> "
		}
		return "  "
	}
	lines = append(lines, mark(0)+"no: /var is on the same disk as the system")
	for i, d := range m.varDisks() {
		lines = append(lines, mark(i+1)+d.Describe(), "    "+d.ID)
	}
	return lines
}
