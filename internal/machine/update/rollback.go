package update

import (
	"errors"
	"fmt"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/boot"
	"github.com/ashlar-os/ashlar/internal/machine/history"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// RollbackPlan says what going to another deployment will do.
type RollbackPlan struct {
	From  string        `json:"from"` // what boots next now
	To    string        `json:"to"`
	Image verity.Digest `json:"image"`
	*boot.Plan

	// Withdrawn says why the publisher took the target back. The choice is the
	// person's all the same. nil: it did not, as far as is known here.
	Withdrawn *trust.Withdrawal `json:"withdrawn,omitempty"`

	from *Deployment
}

// errNoPrevious is a machine with one good deployment.
var errNoPrevious = errors.New("there is no previous deployment to go back to")

// PlanRollback plans to boot target next, or the previous deployment when
// target is nil.
func (m *Machine) PlanRollback(s *State, target *Deployment) (*RollbackPlan, error) {
	if target == nil {
		if target = s.previous(); target == nil {
			return nil, errNoPrevious
		}
	}
	switch {
	case target.Lost:
		return nil, fmt.Errorf("%s has no boot file on the ESP any more; ashlar verify --repair fetches it again", target.ID())
	case target.Remembered():
		return nil, fmt.Errorf("%s was cleared away; ashlar update --retry stages it again where its channel still names it", target.ID())
	case target.Entry == nil:
		return nil, fmt.Errorf("%s has no boot file on the ESP", target.ID())
	}
	if err := m.Store.CheckImage(target.Image); err != nil {
		return nil, fmt.Errorf("%s cannot boot: %w", target.ID(), err)
	}
	renames, err := boot.PlanRollback(s.Entries, target.Image)
	if err != nil {
		return nil, err
	}
	plan := &RollbackPlan{To: target.ID(), Image: target.Image, Plan: renames}
	if a := m.acceptedFor(s, target, make(map[string]*accepted)); a.err == nil {
		plan.Withdrawn = withdrawal(a.view, target)
	}
	if s.Next != nil {
		plan.From, plan.from = s.nameOf(*s.Next), s.With(Next)
	}
	return plan, nil
}

// previous is the deployment to go back to, or the one that would be if it had its
// boot file.
func (s *State) previous() *Deployment {
	if d := s.With(Previous); d != nil {
		return d
	}
	for i := range s.Deployments {
		if d := &s.Deployments[i]; d.Lost && !d.Is(Running) {
			return d
		}
	}
	return nil
}

// Rollback walks the plan. The store's lock must be held.
func (m *Machine) Rollback(plan *RollbackPlan) error {
	// A target that never ran merges /etc at its first boot: what this machine
	// has now, not what it had when the target was staged.
	if !m.Running.IsZero() && plan.Image != m.Running && !m.hasEtc(plan.Image) {
		dep, err := m.Store.Deployment(plan.Image)
		if err != nil {
			return err
		}
		if dep.EtcFrom != m.Running.String() {
			dep.EtcFrom = m.Running.String()
			if err := m.Store.WriteDeployment(dep); err != nil {
				return err
			}
		}
	}
	if err := plan.Apply(m.ESP); err != nil {
		return err
	}
	if plan.from != nil && plan.from.Image != plan.Image {
		m.note(history.RolledBack, plan.from, "to "+plan.To)
	}
	return nil
}
