package update

import (
	"fmt"
	"slices"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/history"
	"github.com/ashlar-os/ashlar/internal/machine/store"
)

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
	Entry   *esp.Entry // nil: the loader does not know it
	Roles   []Role
	Failure string           // why it failed, a sentence; empty where it did not, or did not get to say
	Fault   *history.Failure // all that its last failed boot left; nil: nothing, or it was good since

	// Lost says that it is wanted and that its boot file is gone from the ESP, as a
	// cut in the middle of a rename may leave it (docs/esp.md).
	Lost bool

	id    string
	aside *aside // nil: it has a boot file, or no memory of one
}

// ID is NAME-VERSION, with the start of the image's digest where two
// deployments of a machine share that.
func (d *Deployment) ID() string { return d.id }

// Is reports whether d has the role.
func (d *Deployment) Is(r Role) bool { return slices.Contains(d.Roles, r) }

// Remembered reports whether d is no more than a memory: its release was here,
// is not wanted again by itself, and everything else of it was cleared away.
func (d *Deployment) Remembered() bool { return d.Entry == nil && d.aside != nil }

// State is one look at everything that decides what a machine boots.
type State struct {
	Deployments []Deployment // newest version first
	Broken      []store.Broken
	Entries     []esp.Entry // in the loader's order, foreign ones too
	Next        *esp.Entry  // nil: nothing of ours or anybody's would boot
	Kept        bool        // what runs is not good, and kept because nothing here gets further
}

// name gives every deployment the shortest ID that is its own.
func (s *State) name() {
	count := make(map[string]int)
	for i := range s.Deployments {
		d := &s.Deployments[i]
		d.id = d.Name + "-" + d.Version
		count[d.id]++
	}
	for i := range s.Deployments {
		if d := &s.Deployments[i]; count[d.id] > 1 {
			d.id += " (" + d.Image.Short() + ")"
		}
	}
}

func (s *State) assignRoles(running verity.Digest) {
	staged := s.findStaged(running)
	previous := s.findPrevious(running)
	for i := range s.Deployments {
		d := &s.Deployments[i]
		runs := d.Image == running
		add := func(r Role, has bool) {
			if has {
				d.Roles = append(d.Roles, r)
			}
		}
		add(Running, runs)
		add(Next, d.Entry != nil && s.Next != nil && s.Next.File == d.Entry.File)
		add(Staged, d == staged)
		add(Previous, d == previous)
		add(Retired, d.retired())
		// What runs on its last try has no try left, and has not failed yet.
		add(Failed, !runs && d.failed())
		add(Pinned, d.Pinned)
	}
	s.findLost(running, previous)
}

// findLost marks what would be running, previous or pinned with its boot file,
// and has none. What a clean-up that was cut had begun to remove booted well
// earlier than the previous one.
func (s *State) findLost(running verity.Digest, previous *Deployment) {
	for i := range s.Deployments {
		d := &s.Deployments[i]
		if d.Entry == nil && d.aside == nil {
			last := d.GoodBootsSeq > 0 && (previous == nil || d.GoodBootsSeq > previous.GoodBootsSeq)
			d.Lost = d.Image == running || d.Pinned || last
		}
	}
}

func (d *Deployment) retired() bool {
	if d.Entry == nil {
		return d.aside != nil && d.aside.Role == Retired
	}
	return d.Entry.Exhausted() && d.Entry.Done == 0
}

func (d *Deployment) failed() bool {
	if d.Entry == nil {
		return d.aside != nil && d.aside.Role == Failed
	}
	return d.Entry.Exhausted() && d.Entry.Done > 0
}

// findStaged returns the first in the loader's order that has tries to prove
// itself and does not run. What comes behind it was staged before and has been
// superseded.
func (s *State) findStaged(running verity.Digest) *Deployment {
	for _, e := range s.Entries {
		if e.Left <= 0 || e.Foreign || e.Image == running {
			continue
		}
		if d := s.Of(e.Image); d != nil && d.Entry != nil && d.Entry.File == e.File {
			return d
		}
	}
	return nil
}

// findPrevious returns what last booted well, of all that could boot again.
func (s *State) findPrevious(running verity.Digest) *Deployment {
	var previous *Deployment
	for i := range s.Deployments {
		d := &s.Deployments[i]
		if d.Image == running || d.Entry == nil || d.failed() || d.GoodBootsSeq == 0 {
			continue
		}
		if previous == nil || d.GoodBootsSeq > previous.GoodBootsSeq {
			previous = d
		}
	}
	return previous
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

// Leading returns the deployment whose repository is asked for updates, and
// that they are compared with: what runs, unless a switch to another repository
// is waiting for its first boot, or a rollback out of one.
func (s *State) Leading() *Deployment {
	running, next := s.With(Running), s.With(Next)
	if running != nil && next != nil && next.Origin != running.Origin {
		return next
	}
	return running
}

// Find returns the one deployment that a person means by word: a version,
// NAME-VERSION, or the start of an image digest.
func (s *State) Find(word string) (*Deployment, error) {
	var found []*Deployment
	for i := range s.Deployments {
		d := &s.Deployments[i]
		exact := word == d.Version || word == d.Name+"-"+d.Version || word == d.id
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

// nameOf is what people call the deployment of a boot file.
func (s *State) nameOf(e esp.Entry) string {
	if d := s.Of(e.Image); d != nil && !e.Foreign {
		return d.ID()
	}
	return e.File
}

// newer reports whether a is a later version than b.
func newer(a, b string) bool { return release.CompareVersions(a, b) > 0 }
