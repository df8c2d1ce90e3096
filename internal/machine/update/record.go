package update

import (
	"github.com/ashlar-os/ashlar/internal/machine/history"
)

// RecordGoodBoot notes that the running deployment came up: from now on it is
// what a rollback goes back to. It runs after boot-complete.target. The store's
// lock must be held.
func (m *Machine) RecordGoodBoot() error {
	s, err := m.Look()
	if err != nil {
		return err
	}
	running := s.With(Running)
	if running == nil {
		return nil
	}
	if err := forget(m.failurePath(running.Image)); err != nil { // of an earlier try
		return err
	}
	m.noteFailed(s)
	tally := history.ReadTally(m.Store.Dir)
	doubted := tally.Image == running.Image && (tally.Suspect || tally.Stay)
	if doubted {
		tally.Suspect, tally.Stay = false, false
		if err := tally.Write(m.Store.Dir); err != nil {
			return err
		}
	}
	var last int64 // of the others
	for i := range s.Deployments {
		if d := &s.Deployments[i]; d != running {
			last = max(last, d.GoodBootsSeq)
		}
	}
	if running.GoodBootsSeq > last {
		if doubted {
			m.noteBy(history.ByHealth, history.Blessed, running, "it stayed up")
		}
		return nil
	}
	dep := running.Deployment
	dep.GoodBootsSeq = last + 1
	if err := m.Store.WriteDeployment(&dep); err != nil {
		return err
	}
	m.noteBy(history.ByHealth, history.Blessed, running, "its boot was found good")
	return nil
}

// Prepare is what every change begins with, under the store's lock. It clears
// away what a run that was cut left, and records a good boot that could not be
// recorded when it was found good, because another ashlar was at work: the boot
// file without a counter still says so.
func (m *Machine) Prepare() error {
	if err := m.prepare(); err != nil {
		return err
	}
	s, err := m.Look()
	if err != nil {
		return err
	}
	if d := s.With(Running); d != nil && d.Entry != nil && !d.Entry.Counted() && d.GoodBootsSeq == 0 && !s.Kept {
		return m.RecordGoodBoot()
	}
	return nil
}

// SetPinned pins or unpins a deployment: a pinned one survives every clean-up.
func (m *Machine) SetPinned(d *Deployment, pinned bool) error {
	dep := d.Deployment
	dep.Pinned = pinned
	if err := m.Store.WriteDeployment(&dep); err != nil {
		return err
	}
	kind := history.Pinned
	if !pinned {
		kind = history.Unpinned
	}
	m.note(kind, d, "")
	return nil
}

// Follow makes the deployment of what was found, if there is one, look for
// updates where it was found from now on.
func (m *Machine) Follow(f *Finding) error {
	s, err := m.Look()
	if err != nil {
		return err
	}
	d := s.ofRelease(f.Release.DocumentDigest.String())
	if d == nil && f.src != nil {
		d = s.Of(f.src.Document().Root().Digest)
	}
	if d == nil || d.Origin == f.Origin {
		return nil
	}
	dep := d.Deployment
	dep.Origin = f.Origin
	return m.Store.WriteDeployment(&dep)
}
