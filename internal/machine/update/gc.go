package update

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/history"
	"github.com/ashlar-os/ashlar/internal/machine/store"
)

// GCPlan says what a clean-up will remove, in the order it will.
type GCPlan struct {
	Entries     []esp.Entry      `json:"entries"`     // boot files
	Remembered  []verity.Digest  `json:"remembered"`  // deployments of which only the memory stays
	Deployments []verity.Digest  `json:"deployments"` // with their /etc
	Sweep       *store.SweepPlan `json:"sweep"`
	Kept        []verity.Digest  `json:"kept"`
	Unknown     []string         `json:"unknown"` // names in the store that are not Ashlar's, and stay

	aside []Deployment // those of Remembered, as they were
	gone  []Deployment // those of Deployments, likewise
}

// Empty reports whether there is nothing to remove.
func (p *GCPlan) Empty() bool {
	return len(p.Entries)+len(p.Remembered)+len(p.Deployments)+len(p.Sweep.Images)+len(p.Sweep.Objects) == 0
}

// PlanGC finds what is neither running, next, previous, staged nor pinned. The
// store's lock must be held.
func (m *Machine) PlanGC(ctx context.Context) (*GCPlan, error) {
	s, err := m.Look()
	if err != nil {
		return nil, err
	}
	plan := &GCPlan{Entries: []esp.Entry{}, Remembered: []verity.Digest{}, Deployments: []verity.Digest{}, Kept: []verity.Digest{}}
	kept := m.keep(s)
	for i := range s.Deployments {
		d := &s.Deployments[i]
		if kept[d.Image] {
			plan.Kept = append(plan.Kept, d.Image)
			continue
		}
		if d.Entry != nil {
			plan.Entries = append(plan.Entries, *d.Entry)
		}
		switch {
		case !s.remembers(d):
			plan.Deployments = append(plan.Deployments, d.Image)
			plan.gone = append(plan.gone, *d)
		case d.Entry != nil || m.hasEtc(d.Image) || m.hasMerge(d.Image):
			plan.Remembered = append(plan.Remembered, d.Image)
			plan.aside = append(plan.aside, *d)
		}
	}
	// A deployment whose description cannot be read may still be what boots,
	// and so may the running image, where nothing here says that it runs.
	for _, broken := range s.Broken {
		plan.keepImage(m, broken.Image)
	}
	plan.keepImage(m, m.Running)
	if plan.Unknown, err = m.Store.Unknown(); err != nil {
		return nil, err
	}
	plan.Sweep, err = m.planSweep(ctx, s, plan.Kept)
	return plan, err
}

// keepImage keeps an image that has no description, where it is there at all.
func (p *GCPlan) keepImage(m *Machine, d verity.Digest) {
	if !d.IsZero() && !slices.Contains(p.Kept, d) && m.Store.HasImage(d) {
		p.Kept = append(p.Kept, d)
	}
}

// keep returns the images of all deployments that stay.
func (m *Machine) keep(s *State) map[verity.Digest]bool {
	kept := make(map[verity.Digest]bool)
	for i := range s.Deployments {
		if d := &s.Deployments[i]; s.keeps(d) {
			kept[d.Image] = true
		}
	}
	// The first boot of a deployment merges /etc from another, which it needs
	// until then.
	for i := range s.Deployments {
		d := &s.Deployments[i]
		if base, ok := d.EtcBase(); ok && kept[d.Image] && !m.hasEtc(d.Image) {
			kept[base] = true
		}
	}
	return kept
}

func (s *State) keeps(d *Deployment) bool {
	if slices.ContainsFunc([]Role{Running, Next, Previous, Staged, Pinned}, d.Is) || d.Lost {
		return true
	}
	running := s.With(Running)
	if running == nil {
		return true // nobody knows what this machine can do without
	}
	// Until the running deployment has proved itself, every boot file is a way back.
	if d.Entry != nil && (s.Kept || running.Entry != nil && running.Entry.Counted()) {
		return true
	}
	// What was good, and newer, has an /etc that nothing here carries on: it stays
	// until the machine has gone forward past it.
	return d.Entry != nil && d.GoodBootsSeq > 0 && d.aboveIn(s) && (d.Is(Failed) || d.Is(Retired)) && d.Name == running.Name
}

// remembers says whether the memory of a deployment stays when it goes: until
// a newer one runs.
func (s *State) remembers(d *Deployment) bool {
	return (d.Is(Failed) || d.Is(Retired)) && d.aboveIn(s)
}

// aboveIn reports whether d is newer than what runs, or no version of it.
func (d *Deployment) aboveIn(s *State) bool {
	running := s.With(Running)
	return running != nil && (d.Name != running.Name || newer(d.Version, running.Version))
}

func (m *Machine) hasEtc(d verity.Digest) bool {
	_, err := os.Lstat(m.Store.EtcUpper(d))
	return err == nil
}

// hasMerge reports whether a first boot was cut while it merged /etc.
func (m *Machine) hasMerge(d verity.Digest) bool {
	_, err := os.Lstat(m.Store.EtcNew(d))
	return err == nil
}

// planSweep plans to remove what no kept image uses. An image that cannot be
// read would stop every clean-up; one that failed, and may well have because of
// that, is given up instead. Its deployment keeps its /etc.
func (m *Machine) planSweep(ctx context.Context, s *State, kept []verity.Digest) (*store.SweepPlan, error) {
	plan, err := m.Store.PlanSweep(ctx, kept)
	if err == nil || ctx.Err() != nil {
		return plan, err
	}
	readable := slices.DeleteFunc(slices.Clone(kept), func(image verity.Digest) bool {
		d := s.Of(image)
		if d == nil || !d.Is(Failed) || d.Is(Next) || d.Is(Pinned) {
			return false
		}
		_, err := m.Store.ReadImage(image)
		return err != nil
	})
	if len(readable) == len(kept) {
		return nil, err
	}
	return m.Store.PlanSweep(ctx, readable)
}

// GC walks the plan: boot files first, so that the loader never offers what is
// half gone, then deployments, then what nothing uses any more. What shall be
// remembered is, before its boot file goes.
func (m *Machine) GC(ctx context.Context, plan *GCPlan) error {
	for i := range plan.aside {
		if err := m.putAside(&plan.aside[i]); err != nil {
			return err
		}
	}
	for _, e := range plan.Entries {
		if err := m.ESP.Remove(e); err != nil {
			return err
		}
	}
	for _, d := range plan.Deployments {
		if err := m.Store.RemoveDeployment(d); err != nil {
			return err
		}
	}
	for _, d := range plan.Remembered {
		// The report first: without it, whatever is left of /etc is made anew.
		err := errors.Join(forget(m.Store.EtcReport(d)),
			os.RemoveAll(m.Store.EtcWork(d)), os.RemoveAll(m.Store.EtcNew(d)), os.RemoveAll(m.Store.EtcUpper(d)))
		if err != nil {
			return fmt.Errorf("clearing deployment %s: %w", d.Short(), err)
		}
	}
	for i := range plan.aside {
		m.note(history.Removed, &plan.aside[i], "no deployment needs it; it is remembered as "+string(plan.aside[i].memory()))
	}
	for i := range plan.gone {
		m.note(history.Removed, &plan.gone[i], "no deployment needs it")
	}
	if err := m.Store.Sweep(ctx, plan.Sweep); err != nil {
		return err
	}
	return m.prepare()
}
