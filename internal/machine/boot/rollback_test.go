package boot

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/esp/esptest"
)

func image(n int) verity.Digest { return verity.Digest{byte(n), 0xaa} }

// entry is version n of one system with a counter, as Entries would list it.
func entry(n, left, done int) esp.Entry {
	name, err := esp.EntryName(fmt.Sprint(n), image(n))
	if err != nil {
		panic(err)
	}
	return esp.Entry{
		Name: name, Version: fmt.Sprint(n), Image: image(n),
		SortKey: "server", SortVersion: fmt.Sprint(n),
	}.WithCounter(left, done)
}

// loader is systemd-boot in four lines: the newest entry that has tries left
// or needs none, else the newest.
func loader(entries []esp.Entry) verity.Digest {
	rank := func(e esp.Entry) int {
		n := int(e.Image[0])
		if e.Left != 0 {
			n += 1000
		}
		return n
	}
	return slices.MaxFunc(entries, func(a, b esp.Entry) int { return rank(a) - rank(b) }).Image
}

// rename does one rename on a list of entries.
func rename(t *testing.T, entries []esp.Entry, r Rename) []esp.Entry {
	t.Helper()
	out := slices.Clone(entries)
	for i, e := range out {
		if e.File == r.To {
			t.Fatalf("%q is renamed over %q", r.From, r.To)
		}
		if e.File != r.From {
			continue
		}
		for _, left := range []int{esp.NoCounter, 0, 1, 2, esp.Tries} {
			if to := e.WithCounter(left, 0); to.File == r.To {
				out[i] = to
				return out
			}
		}
	}
	t.Fatalf("cannot rename %q to %q in %v", r.From, r.To, entries)
	return nil
}

// TestRollbackCutAnywhere goes through every set of up to four deployments in
// every state, every target, and a cut after every rename.
func TestRollbackCutAnywhere(t *testing.T) {
	counters := [][2]int{{esp.NoCounter, 0}, {3, 0}, {1, 2}, {0, 0}, {0, 3}}
	cases := 0
	var walk func(entries []esp.Entry, n int)
	walk = func(entries []esp.Entry, n int) {
		for target := 1; target < n; target++ {
			cases++
			checkRollback(t, entries, image(target))
		}
		if n > 4 || t.Failed() {
			return
		}
		for _, c := range counters {
			walk(append(slices.Clone(entries), entry(n, c[0], c[1])), n+1)
		}
	}
	walk(nil, 1)
	if want := 1*5 + 2*25 + 3*125 + 4*625; cases != want {
		t.Errorf("%d cases, want %d", cases, want)
	}
}

func checkRollback(t *testing.T, entries []esp.Entry, target verity.Digest) {
	t.Helper()
	p, err := PlanRollback(entries, target)
	if err != nil {
		t.Fatalf("%v: %v", files(entries), err)
	}
	before := loader(entries)
	state := entries
	for i, r := range p.Renames {
		state = rename(t, state, r)
		// Cut here: the machine boots what it would have booted, or the target.
		if next := loader(state); next != before && next != target {
			t.Fatalf("%v → %s: after %d of %v it boots %s", files(entries), target.Short(), i+1, p.Renames, next.Short())
		}
		if e, ok := esp.Next(state); !ok || e.Image != loader(state) {
			t.Fatalf("%v: package esp says %q boots next", files(state), e.File)
		}
	}
	if loader(state) != target || p.Target.Image != target {
		t.Fatalf("%v → %s: after all of %v it boots %s", files(entries), target.Short(), p.Renames, loader(state).Short())
	}
	// It sticks: planning again finds nothing to do, also once blessed.
	blessed := slices.Clone(state)
	for i, e := range blessed {
		if e.Image == target {
			blessed[i] = e.WithCounter(esp.NoCounter, 0)
		}
	}
	for _, s := range [][]esp.Entry{state, blessed} {
		again, err := PlanRollback(s, target)
		if err != nil || len(again.Renames) != 0 {
			t.Fatalf("%v is not stable: %v, %v", files(s), again, err)
		}
	}
	// And forward again, to what was first.
	forward, err := PlanRollback(blessed, before)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range forward.Renames {
		blessed = rename(t, blessed, r)
		if next := loader(blessed); next != before && next != target {
			t.Fatalf("%v: on the way forward it boots %s", files(entries), next.Short())
		}
	}
	if loader(blessed) != before {
		t.Fatalf("%v: forward again it boots %s", files(entries), loader(blessed).Short())
	}
}

func files(entries []esp.Entry) (names []string) {
	for _, e := range entries {
		names = append(names, e.File)
	}
	return names
}

func TestRollbackRefuses(t *testing.T) {
	blessed := entry(1, esp.NoCounter, 0)
	foreign := esp.Entry{File: "arch.efi", Name: "arch", Foreign: true, Left: esp.NoCounter, SortKey: "arch"}
	for name, c := range map[string]struct {
		entries []esp.Entry
		target  verity.Digest
	}{
		"a target without an entry":           {[]esp.Entry{blessed}, image(2)},
		"another system that sorts first":     {[]esp.Entry{blessed, foreign}, image(1)},
		"an entry that is there in two forms": {[]esp.Entry{blessed, entry(2, 3, 0), entry(2, 0, 0)}, image(1)},
	} {
		if p, err := PlanRollback(c.entries, c.target); err == nil {
			t.Errorf("%s: planned %v", name, p.Renames)
		}
	}
	if _, err := PlanRollback(nil, image(1)); !errors.Is(err, ErrNoEntry) {
		t.Errorf("no entry at all: %v", err)
	}
}

func TestApply(t *testing.T) {
	part, err := esp.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 3; n++ {
		b := esptest.Release("server", fmt.Sprint(n), image(n))
		e, err := part.Commit(fmt.Sprint(n), image(n), bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.SetCounter(e, esp.NoCounter, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, target := range []int{1, 3, 2, 2} {
		entries, err := part.Entries()
		if err != nil {
			t.Fatal(err)
		}
		p, err := PlanRollback(entries, image(target))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Apply(part); err != nil {
			t.Fatal(err)
		}
		if e, ok, err := part.Next(); err != nil || !ok || e.Image != image(target) {
			t.Errorf("after going to %d the next is %+v, %v", target, e, err)
		}
	}
}

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		entries []esp.Entry
		file    string
		why     string
	}{
		{[]esp.Entry{entry(1, -1, 0), entry(2, -1, 0)}, entry(2, -1, 0).File, "it is the newest"},
		{[]esp.Entry{entry(1, -1, 0), entry(2, 3, 0)}, entry(2, 3, 0).File, "it is the newest; it has 3 tries to prove itself"},
		{[]esp.Entry{entry(1, -1, 0), entry(2, 1, 2)}, entry(2, 1, 2).File, "it is the newest; it has one try left to prove itself"},
		{[]esp.Entry{entry(1, -1, 0), entry(2, 0, 3)}, entry(1, -1, 0).File, "the newer one is out of tries"},
		{[]esp.Entry{entry(1, -1, 0), entry(2, 0, 0), entry(3, 0, 0)}, entry(1, -1, 0).File, "the 2 newer ones were put aside by a rollback"},
		{[]esp.Entry{entry(1, -1, 0), entry(2, 0, 0)}, entry(1, -1, 0).File, "the newer one was put aside by a rollback"},
		{[]esp.Entry{entry(1, -1, 0), entry(2, 0, 0), entry(3, 0, 3)}, entry(1, -1, 0).File, "the 2 newer ones are out of tries or put aside"},
		{[]esp.Entry{entry(1, 0, 3), entry(2, 0, 3)}, entry(2, 0, 3).File, "every entry is out of tries, and this is the newest"},
	} {
		next, ok := Explain(c.entries)
		if !ok || next.Entry.File != c.file || next.Why != c.why {
			t.Errorf("of %v: %q because %q, want %q because %q", files(c.entries), next.Entry.File, next.Why, c.file, c.why)
		}
	}
	if next, ok := Explain(nil); ok {
		t.Errorf("of nothing: %+v", next)
	}
}
