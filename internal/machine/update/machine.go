package update

import (
	"fmt"
	"slices"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/store"
)

// Machine is an installed computer: its store, its boot entries and what runs.
type Machine struct {
	Store   *store.Store
	ESP     *esp.ESP
	Running verity.Digest // zero when no deployment runs, as on an installer
}

// Role is what a deployment is to the machine; see the package's text.
type Role string

// The roles.
const (
	Running  Role = "running"
	Next     Role = "next"
	Staged   Role = "staged"
	Previous Role = "previous"
	Retired  Role = "retired"
	Failed   Role = "failed"
	Pinned   Role = "pinned"
)

// Deployment is a deployment with its boot file and its roles.
type Deployment struct {
	store.Deployment
	Entry *esp.Entry // nil: the loader does not know it
	Roles []Role
}

// Is reports whether d has the role.
func (d *Deployment) Is(r Role) bool { return slices.Contains(d.Roles, r) }

// State is one look at everything that decides what a machine boots.
type State struct {
	Deployments []Deployment // newest version first
	Broken      []store.Broken
	Entries     []esp.Entry // in the loader's order, foreign ones too
	Next        *esp.Entry  // nil: nothing of ours or anybody's would boot
}

// Look reads the state of the machine. It takes no lock and changes nothing.
func (m *Machine) Look() (*State, error) {
	survey, err := m.Store.Survey()
	if err != nil {
		return nil, err
	}
	entries, err := m.ESP.Entries()
	if err != nil {
		return nil, err
	}
	s := &State{Broken: survey.Broken, Entries: entries}
	if next, ok := esp.Next(entries); ok {
		s.Next = &next
	}
	for _, dep := range survey.Deployments {
		d := Deployment{Deployment: dep}
		if e, ok := esp.Find(entries, dep.Image); ok {
			d.Entry = &e
		}
		s.Deployments = append(s.Deployments, d)
	}
	s.assignRoles(m.Running)
	return s, nil
}

func (s *State) assignRoles(running verity.Digest) {
	var previous *Deployment
	for i := range s.Deployments {
		d := &s.Deployments[i]
		runs := d.Image == running
		add := func(r Role, has bool) {
			if has {
				d.Roles = append(d.Roles, r)
			}
		}
		add(Running, runs)
		if e := d.Entry; e != nil {
			add(Next, s.Next != nil && s.Next.File == e.File)
			add(Staged, !runs && e.Left > 0)
			add(Retired, e.Exhausted() && e.Done == 0)
			add(Failed, e.Exhausted() && e.Done > 0)
			if !runs && d.GoodBootsSeq > 0 && (previous == nil || d.GoodBootsSeq > previous.GoodBootsSeq) {
				previous = d
			}
		}
		add(Pinned, d.Pinned)
	}
	if previous != nil {
		previous.Roles = append(previous.Roles, Previous)
	}
}

// With returns the first deployment that has the role, or nil.
func (s *State) With(r Role) *Deployment {
	for i := range s.Deployments {
		if s.Deployments[i].Is(r) {
			return &s.Deployments[i]
		}
	}
	return nil
}

// Of returns the deployment of image d, or nil.
func (s *State) Of(d verity.Digest) *Deployment {
	for i := range s.Deployments {
		if s.Deployments[i].Image == d {
			return &s.Deployments[i]
		}
	}
	return nil
}

// Find returns the one deployment that a person means by word: a version,
// NAME-VERSION, or the start of an image digest.
func (s *State) Find(word string) (*Deployment, error) {
	var found []*Deployment
	for i := range s.Deployments {
		d := &s.Deployments[i]
		exact := word == d.Version || word == d.Name+"-"+d.Version || word == d.ID()
		start := len(word) >= 4 && len(word) <= 64 && d.Image.String()[:len(word)] == word
		if exact || start {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fmt.Errorf("no deployment here is %q; ashlar status lists them", word)
	}
	return nil, fmt.Errorf("%d deployments here are %q; name one by its image digest", len(found), word)
}

// lastSeq is the highest count of good boots.
func (s *State) lastSeq() int64 {
	var last int64
	for _, d := range s.Deployments {
		last = max(last, d.GoodBootsSeq)
	}
	return last
}

// newer reports whether a is a later version than b.
func newer(a, b string) bool { return release.CompareVersions(a, b) > 0 }
