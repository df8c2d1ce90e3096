package trust

import (
	"errors"
	"testing"
)

// A medium may be old, but not older than what people signed for, nor than what
// this machine accepted.
func TestMediumMayBeOld(t *testing.T) {
	p := newPublisher(t)
	old := p.release("1.0.0")
	m := p.machine()
	m.Now = at(today.Add(100 * day))
	if _, err := m.Refresh(ctx, old); !errors.Is(err, ErrStale) {
		t.Errorf("a repository after 100 days: %v", err)
	}
	v, err := m.RefreshMedium(ctx, old)
	if err != nil {
		t.Fatal(err)
	}
	if v.Stale() == nil {
		t.Error("the view does not say that its time is over")
	}
	if accepted, err := m.Accepted(); err != nil || accepted.Root() == nil {
		t.Errorf("what a medium said is not remembered: %v", err)
	}
	late := p.machine()
	late.Now = at(today.Add(366 * day))
	if _, err := late.RefreshMedium(ctx, old); !errors.Is(err, ErrStale) {
		t.Errorf("a medium after a year: %v", err)
	}
	if _, err := late.Accepted(); !errors.Is(err, ErrNothingAccepted) {
		t.Errorf("it was remembered all the same: %v", err)
	}
	m = p.machine()
	mustRefresh(t, m, p.release("1.1.0"))
	if _, err := m.RefreshMedium(ctx, old); !errors.Is(err, ErrRollback) {
		t.Errorf("a medium from before what was accepted: %v", err)
	}
	forged := p.steals().forge(p.files, func(*forgery) {})
	if _, err := p.machine().RefreshMedium(ctx, forged); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a forged medium: %v", err)
	}
}
