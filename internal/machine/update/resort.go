package update

import (
	"fmt"
	"slices"

	"github.com/ashlar-os/ashlar/internal/machine/boot"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/history"
)

// Resort says what becomes of a machine after a boot that was counted and has
// failed.
//
// Mostly the loader does what is right: this deployment has tries left, or
// another one has, or was good, and comes first. Only when every boot file is
// out of tries the loader would start the newest of them, over and over, and each
// boot would end in the next. Then one is chosen to stay with: what was only
// put aside, as by a rollback, is tried again, and counted; else what got
// furthest loses its counter. Its boots are not ended any more: people can look
// at it, and put it right.
type Resort struct {
	Target  string        // what it will boot from now on; empty: as the loader has it
	Stay    bool          // it runs: there is no need to restart
	Renames []boot.Rename // of boot files

	target *Deployment
	kept   bool // the target loses its counter
}

// PlanResort plans what to do about the running deployment, whose boot failed.
func (m *Machine) PlanResort(s *State) *Resort {
	return s.resort(func(d *Deployment) bool { return m.Store.CheckImage(d.Image) == nil })
}

func (s *State) resort(whole func(*Deployment) bool) *Resort {
	if s.Next == nil || !s.Next.Exhausted() {
		return &Resort{}
	}
	list := s.bootable(whole)
	if d := putAside(list); d != nil {
		if plan, err := boot.PlanRollback(s.Entries, d.Image); err == nil {
			return &Resort{Target: d.ID(), Renames: plan.Renames, target: d}
		}
	}
	d := furthest(list)
	if d == nil {
		return &Resort{}
	}
	return &Resort{
		Target: d.ID(), Stay: d.Is(Running), target: d, kept: true,
		Renames: []boot.Rename{{From: d.Entry.File, To: d.Entry.WithCounter(esp.NoCounter, 0).File}},
	}
}

// putAside returns what was put aside without having failed: the one that last
// booted well, else the first in the loader's order.
func putAside(list []*Deployment) (best *Deployment) {
	for _, d := range list {
		if d.Entry.Done == 0 && d.Fault == nil && (best == nil || d.GoodBootsSeq > best.GoodBootsSeq) {
			best = d
		}
	}
	return best
}

// furthest returns the deployment whose last boot got furthest; of equals the
// first in the loader's order.
func furthest(list []*Deployment) (best *Deployment) {
	for _, d := range list {
		if best == nil || history.Further(d.Fault, best.Fault) > 0 {
			best = d
		}
	}
	return best
}

// bootable lists the deployments that the loader knows and whose images are
// there, in its order.
func (s *State) bootable(whole func(*Deployment) bool) (list []*Deployment) {
	for _, e := range s.Entries {
		d := s.Of(e.Image)
		if d != nil && d.Entry != nil && d.Entry.File == e.File && whole(d) {
			list = append(list, d)
		}
	}
	return slices.Clip(list)
}

// Resort walks the plan. The store's lock must be held.
func (m *Machine) Resort(plan *Resort) error {
	if plan.target == nil {
		return nil
	}
	image := plan.target.Image
	if plan.kept {
		// Before the rename: cut in between, the loader counts on, and it is all
		// done again.
		tally := history.ReadTally(m.Store.Dir)
		if tally.Image != image {
			tally = history.Tally{Image: image}
		}
		tally.Unclean, tally.Stay = 0, true
		if err := tally.Write(m.Store.Dir); err != nil {
			return err
		}
	}
	if err := (&boot.Plan{Renames: plan.Renames}).Apply(m.ESP); err != nil {
		return err
	}
	kind, why := history.CountedAgain, "every other deployment here has failed, and this one was only put aside"
	if plan.kept {
		kind, why = history.Kept, "every deployment here has failed, and this one gets furthest"
	}
	m.note(kind, plan.target, why)
	return nil
}

// RecordFailure keeps why the boot that runs has failed, before it ends.
func (m *Machine) RecordFailure(f history.Failure) error {
	dep, err := m.Store.Deployment(m.Running)
	if err != nil {
		return err
	}
	f.ID = dep.Name + "-" + dep.Version
	if err := history.WriteFailure(m.Store.DeploymentPath(m.Running), f); err != nil {
		return fmt.Errorf("keeping why %s failed: %w", f.ID, err)
	}
	why := f.Reason
	if f.Check != "" {
		why = f.Check + ": " + why
	}
	m.noteBy(history.ByHealth, history.Failed, &Deployment{Deployment: *dep}, why)
	return nil
}

// StaysUp notes that the boot that runs has ended well, or cannot end badly any
// more. It needs no lock: the tally is replaced as a whole.
func (m *Machine) StaysUp() error {
	tally := history.ReadTally(m.Store.Dir)
	if tally.Image != m.Running {
		return nil
	}
	tally.EndWell()
	return tally.Write(m.Store.Dir)
}

// StaysFailed notes that what runs is not good and is kept all the same, where
// that is so: its boots are no reason to count them again.
func (m *Machine) StaysFailed() error {
	tally := history.ReadTally(m.Store.Dir)
	if tally.Image != m.Running || !tally.Stay {
		return nil
	}
	tally.Unclean = 0
	return tally.Write(m.Store.Dir)
}
