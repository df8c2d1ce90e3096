package update

import (
	"context"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/store"
)

// GCPlan says what a clean-up will remove, in the order it will.
type GCPlan struct {
	Entries     []esp.Entry      `json:"entries"`     // boot files
	Deployments []verity.Digest  `json:"deployments"` // with their /etc
	Sweep       *store.SweepPlan `json:"sweep"`
	Kept        []verity.Digest  `json:"kept"`
}

// Empty reports whether there is nothing to remove.
func (p *GCPlan) Empty() bool {
	return len(p.Entries)+len(p.Deployments)+len(p.Sweep.Images)+len(p.Sweep.Objects) == 0
}

// PlanGC finds what is neither running, next, previous, staged nor pinned. The
// store's lock must be held.
func (m *Machine) PlanGC(ctx context.Context) (*GCPlan, error) {
	s, err := m.Look()
	if err != nil {
		return nil, err
	}
	plan := &GCPlan{}
	for i := range s.Deployments {
		d := &s.Deployments[i]
		if s.keep(d) {
			plan.Kept = append(plan.Kept, d.Image)
			continue
		}
		plan.Deployments = append(plan.Deployments, d.Image)
		if d.Entry != nil {
			plan.Entries = append(plan.Entries, *d.Entry)
		}
	}
	// A deployment whose description cannot be read may still be what boots.
	for _, broken := range s.Broken {
		plan.Kept = append(plan.Kept, broken.Image)
	}
	// Where nothing here says that it runs, the running image is kept all the same.
	if !m.Running.IsZero() && s.Of(m.Running) == nil && m.Store.HasImage(m.Running) {
		plan.Kept = append(plan.Kept, m.Running)
	}
	plan.Sweep, err = m.Store.PlanSweep(ctx, plan.Kept)
	return plan, err
}

// keep says whether a deployment stays. One that failed or was gone back from
// is remembered until a newer one runs, so that it is not staged again.
func (s *State) keep(d *Deployment) bool {
	for _, role := range []Role{Running, Next, Previous, Staged, Pinned} {
		if d.Is(role) {
			return true
		}
	}
	running := s.With(Running)
	if running == nil {
		return true
	}
	if d.Is(Failed) || d.Is(Retired) {
		return newer(d.Version, running.Version)
	}
	// Until the running deployment has proved itself, everything that ever
	// booted well is a way back.
	return running.Entry != nil && running.Entry.Counted() && d.GoodBootsSeq > 0
}

// GC walks the plan: boot files first, so that the loader never offers what is
// half gone, then deployments, then what nothing uses any more.
func (m *Machine) GC(ctx context.Context, plan *GCPlan) error {
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
	if err := m.Store.Sweep(ctx, plan.Sweep); err != nil {
		return err
	}
	if err := m.ESP.Clean(); err != nil {
		return err
	}
	return m.Store.CleanTmp()
}
