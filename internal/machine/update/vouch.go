package update

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/registry"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// Belief is what a machine knows, by itself, of who vouches for a deployment.
type Belief string

// The beliefs.
const (
	Verified  Belief = "verified"  // its release document is one that was signed
	Unchecked Belief = "unchecked" // nothing that was signed has been seen yet, as on a new disk
	Unvouched Belief = "unvouched" // what was signed does not name it: nobody knows where it is from
)

// Vouch says who vouches for a deployment, from what the machine last accepted.
// It asks nobody.
type Vouch struct {
	Belief    Belief
	Reason    string            // a sentence, where it is not Verified
	Keys      []string          // ids of the targets keys that signed
	Until     time.Time         // when the first of the signatures expires
	SignedAt  time.Time         // of the newest timestamp that was accepted
	Stale     string            // that the signatures are past their time, a sentence; "": they are not
	Withdrawn *trust.Withdrawal // nil: it was not
}

// Recall says that what runs was withdrawn, and what a person can do.
type Recall struct {
	ID      string    `json:"id"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
	WayBack string    `json:"way_back"` // a command and what it does; "" where there is none yet
}

// Vouches looks at every deployment but those that are no more than a memory, and
// says why what runs was withdrawn; nil: it was not, as far as is known here.
func (m *Machine) Vouches(s *State) (map[*Deployment]Vouch, *Recall) {
	views := make(map[string]*accepted)
	all := make(map[*Deployment]Vouch)
	for i := range s.Deployments {
		if d := &s.Deployments[i]; !d.Remembered() {
			all[d] = m.vouch(s, d, views)
		}
	}
	if running := s.With(Running); running != nil {
		if a := m.acceptedFor(s, running, views); a.err == nil {
			return all, s.recalled(a.view)
		}
	}
	return all, nil
}

// accepted is what a machine last accepted of one publisher's image.
type accepted struct {
	view *trust.View
	err  error
}

// acceptedFor opens what was accepted for the publisher of d. What runs is the
// judge where it may be: an image that was put beside it could bring keys of its own.
func (m *Machine) acceptedFor(s *State, d *Deployment, views map[string]*accepted) *accepted {
	dir := m.memory(d.Name, d.Origin)
	if views[dir] != nil {
		return views[dir]
	}
	judge := m.judgeOf(s, d)
	a := &accepted{}
	var root []byte
	if root, a.err = m.rootOf(judge); a.err == nil {
		a.view, a.err = m.client(d.Name, d.Origin, root, judge).Accepted()
	}
	views[dir] = a
	return a
}

// judgeOf is the deployment whose root decides on d.
func (m *Machine) judgeOf(s *State, d *Deployment) *Deployment {
	running := s.With(Running)
	if running != nil && m.memory(running.Name, running.Origin) == m.memory(d.Name, d.Origin) {
		return running
	}
	return d
}

// readSigned reads the release of a deployment again, from where it came from, by
// what was signed. What was accepted before is enough, however old: a release that
// is here is not to be had newer. Otherwise the repository is asked for its signatures.
func (m *Machine) readSigned(ctx context.Context, repo *registry.Repository, image verity.Digest) (*registry.Release, error) {
	s, err := m.Look()
	if err != nil {
		return nil, err
	}
	d := s.Of(image)
	if d == nil {
		return nil, fmt.Errorf("its description is gone")
	}
	document := digest.Digest(d.Release)
	var signed trust.Release
	known := m.acceptedFor(s, d, make(map[string]*accepted))
	if known.err == nil {
		signed, known.err = known.view.Vouches(document)
	}
	if known.err != nil {
		view, err := m.refresh(ctx, repo, m.judgeOf(s, d), &Wanted{Origin: d.Origin})
		if err != nil {
			return nil, err
		}
		if signed, err = view.Vouches(document); err != nil {
			return nil, err
		}
	}
	rel, err := repo.ReadReleaseArtifact(ctx, signed.Artifact.String())
	if err != nil {
		return nil, answered(ctx, err)
	}
	if rel.DocumentDigest != d.Release {
		return nil, &wrongAnswer{fmt.Errorf("the document of %s is %s, and the one that is signed is %s", d.ID(), rel.DocumentDigest, document)}
	}
	return rel, nil
}

func (m *Machine) vouch(s *State, d *Deployment, views map[string]*accepted) Vouch {
	a := m.acceptedFor(s, d, views)
	switch {
	case errors.Is(a.err, trust.ErrNothingAccepted):
		return Vouch{Belief: Unchecked, Reason: "no signatures were looked at yet; ashlar update --check does"}
	case errors.Is(a.err, ErrNoRoot):
		return Vouch{Belief: Unchecked, Reason: a.err.Error()}
	case a.err != nil:
		return Vouch{Belief: Unvouched, Reason: a.err.Error()}
	}
	doc, err := m.Store.Document(&d.Deployment)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Vouch{Belief: Unvouched, Reason: fmt.Sprintf("the release document of %s is not here", d.ID())}
	case err != nil:
		return Vouch{Belief: Unvouched, Reason: err.Error()}
	case doc.Name != d.Name || doc.Version != d.Version:
		return Vouch{Belief: Unvouched, Reason: fmt.Sprintf("it calls itself %s-%s, and its release document %s-%s", d.Name, d.Version, doc.Name, doc.Version)}
	}
	signed, err := a.view.Vouches(digest.Digest(d.Release))
	if err != nil {
		return Vouch{Belief: Unvouched, Reason: err.Error()}
	}
	v := Vouch{Belief: Verified, Keys: a.view.Signers(trust.RoleTargets), SignedAt: a.view.SignedAt(), Withdrawn: signed.Withdrawn}
	for _, until := range a.view.Expires() {
		if v.Until.IsZero() || until.Before(v.Until) {
			v.Until = until
		}
	}
	if err := a.view.Stale(); err != nil {
		v.Stale = err.Error()
	}
	return v
}

// String is what a person is told.
func (r *Recall) String() string {
	text := fmt.Sprintf("%s, which runs, was withdrawn by its publisher on %s: %s", r.ID, r.At.Format(time.DateOnly), r.Reason)
	if r.WayBack != "" {
		text += "; " + r.WayBack
	}
	return text
}

// withdrawal returns why the release of d was withdrawn, or nil.
func withdrawal(view *trust.View, d *Deployment) *trust.Withdrawal {
	signed, err := view.Vouches(digest.Digest(d.Release))
	if err != nil {
		return nil
	}
	return signed.Withdrawn
}

// recalled says why the publisher took back what runs; nil: it did not. Nothing
// goes back by itself: what is here now may be all that this machine can boot.
func (s *State) recalled(view *trust.View) *Recall {
	running := s.With(Running)
	if running == nil || running.Name != view.Image().Name {
		return nil
	}
	why := withdrawal(view, running)
	if why == nil {
		return nil
	}
	r := &Recall{ID: running.ID(), Reason: why.Reason, At: why.At}
	if previous := s.With(Previous); previous != nil && withdrawal(view, previous) == nil {
		r.WayBack = fmt.Sprintf("ashlar rollback goes back to %s", previous.ID())
		return r
	}
	for _, release := range view.Releases() { // the newest first
		if release.Withdrawn == nil {
			r.WayBack = fmt.Sprintf("ashlar update --to %s stages %[1]s", release.Version)
			break
		}
	}
	return r
}

// unwanted is what was staged before it was withdrawn, and has not booted yet.
func (s *State) unwanted(view *trust.View) *Deployment {
	next := s.With(Next)
	if next == nil || next.Is(Running) || next.GoodBootsSeq > 0 || next.Name != view.Image().Name || withdrawal(view, next) == nil {
		return nil
	}
	return next
}

// Unstage lets what runs boot next again, and not what is unwanted. The store's
// lock must be held.
func (m *Machine) Unstage(f *Finding) error {
	d := f.Unwanted
	s, err := m.Look()
	if err != nil {
		return err
	}
	running, next := s.With(Running), s.With(Next)
	if running == nil || next == nil || next.Image != d.Image {
		return nil // it was seen to while nobody held the lock
	}
	plan, err := m.PlanRollback(s, running)
	if err != nil {
		return fmt.Errorf("%s was withdrawn, and boots next: %w", d.ID(), err)
	}
	if err := m.Rollback(plan); err != nil {
		return err
	}
	f.Unwanted, f.Unstaged = nil, d.ID()
	return nil
}
