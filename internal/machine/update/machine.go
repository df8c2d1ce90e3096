package update

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/history"
	"github.com/ashlar-os/ashlar/internal/machine/secureboot"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// Machine is an installed computer: its store, its boot entries and what runs.
type Machine struct {
	Store    *store.Store
	ESP      *esp.ESP
	Running  verity.Digest     // zero when no deployment runs, as on an installer
	Firmware *secureboot.State // what it starts; nil: everything
	Arch     string            // of the releases it takes, such as "amd64"; "" is this program's own
	Batch    int64             // bytes to fetch before they are made durable; 0 means 64 MB
	By       string            // whose wish it is, for the history; "" is history.ByAgent

	Root []byte           // RootPath of the running image; nil: it knows no keys
	Now  func() time.Time // this machine's clock; nil is time.Now
}

// Look reads the state of the machine. It takes no lock and changes nothing.
func (m *Machine) Look() (*State, error) {
	survey, err := m.Store.Survey()
	if err != nil {
		return nil, fmt.Errorf("looking at the machine: %w", err)
	}
	entries, err := m.ESP.Entries()
	if err != nil {
		return nil, fmt.Errorf("looking at the machine: %w", err)
	}
	s := &State{Broken: survey.Broken, Entries: entries}
	if next, ok := esp.Next(entries); ok {
		s.Next = &next
	}
	for _, dep := range survey.Deployments {
		d := Deployment{Deployment: dep}
		if e, ok := esp.Find(entries, dep.Image); ok {
			d.Entry = &e
		} else {
			d.aside = m.readAside(dep.Image)
		}
		s.Deployments = append(s.Deployments, d)
	}
	s.name()
	s.assignRoles(m.Running)
	for i := range s.Deployments {
		d := &s.Deployments[i]
		d.Fault = history.ReadFailure(m.Store.DeploymentPath(d.Image))
		if d.Fault != nil && d.Is(Failed) {
			d.Failure = d.Fault.Reason
		}
	}
	tally := history.ReadTally(m.Store.Dir)
	s.Kept = tally.Stay && tally.Image == m.Running
	return s, nil
}

// Untidy reports whether a run that was cut, or one that is at work, has left
// something that Prepare would clear away. It takes no lock.
func (m *Machine) Untidy() bool {
	left, err := os.ReadDir(filepath.Join(m.Store.Dir, "tmp"))
	return err == nil && len(left) > 0
}

// prepare clears away what a run that was cut left on both file systems. The
// store's lock must be held.
func (m *Machine) prepare() error {
	if err := m.Store.Clean(); err != nil {
		return err
	}
	kept, err := os.ReadDir(m.Store.TrustPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range kept {
		if e.IsDir() {
			if err := trust.Tidy(filepath.Join(m.Store.TrustPath(), e.Name())); err != nil {
				return err
			}
		}
	}
	if err := history.Rotate(m.Store.Dir); err != nil {
		return err
	}
	return m.ESP.Clean()
}
