package trust

import (
	"bytes"
	"errors"
	"maps"
	"strings"
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

// A medium is judged as a whole: one bit of the first root, from which this machine's
// own is the way, and a file that is nobody's, are found though nothing needs them.
func TestMediumIsWhole(t *testing.T) {
	p := newPublisher(t)
	for what, spoil := range map[string]func(Files){
		`the file "1.root.json"`: func(f Files) {
			f["1.root.json"] = bytes.Replace(f["1.root.json"], []byte(`"threshold":1`), []byte(`"threshold":0`), 1)
		},
		`the file "readme" does not belong`: func(f Files) { f["readme"] = []byte("x") },
	} {
		files := maps.Clone(p.release("1.0.0"))
		spoil(files)
		m := p.machine()
		if _, err := m.RefreshMedium(ctx, files); !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := m.Accepted(); !errors.Is(err, ErrNothingAccepted) {
			t.Errorf("%s: it was remembered all the same: %v", what, err)
		}
	}
}
