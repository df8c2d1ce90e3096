package update

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// TestInterruptedAnywhere cancels staging at every moment that can be seen. What
// was staged before stays staged, or the release is; nothing is left that the
// next run does not clear away; and the next run completes.
//
// That a program killed at any moment leaves no more than that is tested with
// real kills, by the stories of package cli.
func TestInterruptedAnywhere(t *testing.T) {
	w, v1 := newWorld(t)
	v2 := w.publish("2.0.0")
	var before []*updatetest.Computer
	for done, at := false, 1; !done; at++ {
		c := w.c.Copy()
		before = append(before, c)
		ctx, cancel := context.WithCancel(context.Background())
		total := 0
		watch := &moments{fn: func(n int) {
			if total = n; n == at {
				cancel()
			}
		}}
		m := machineOf(c)
		w.must(m.Prepare())
		m.Store.Sealer = sealer{watch}
		w.site.Before = func(*http.Request) { watch.now() }
		err := func() error {
			f, err := m.Check(ctx, w.site.Open(), w.wanted())
			if err != nil {
				return err
			}
			plan, err := m.PlanStage(ctx, f, watch)
			if err != nil {
				return err
			}
			return m.Stage(ctx, plan, watch)
		}()
		cancel()
		w.site.Before = nil
		done = total < at
		next := c.WouldBoot()
		switch {
		case err == nil && next != v2.Image():
			t.Fatalf("moment %d: staged, and %s boots next", at, next.Short())
		case err != nil && !errors.Is(err, context.Canceled):
			t.Fatalf("moment %d: %v", at, err)
		case err != nil && next != v1.Image():
			t.Fatalf("moment %d: not staged, and %s boots next", at, next.Short())
		}
		w.must(c.Whole(next))
		w.must(c.Whole(v1.Image()))
		if left := c.Leftovers(); len(left) > 0 {
			t.Errorf("moment %d: it leaves %q", at, left)
		}
		w.must(w.tryStage(machineOf(c)))
		if d := c.WouldBoot(); d != v2.Image() {
			t.Errorf("moment %d: the next run makes %s boot next", at, d.Short())
		}
		w.must(c.Whole(v2.Image()))
	}
	if len(before) < 30 {
		t.Errorf("only %d moments were seen", len(before))
	}
}

// TestCutFetchGoesOn: what had arrived before an update was interrupted is not
// fetched again.
func TestCutFetchGoesOn(t *testing.T) {
	const large = 300_000
	w := &world{t: t, site: updatetest.NewSite(t), c: updatetest.NewComputer(t)}
	w.c.Install(w.site.Publish(updatetest.Spec{Name: "server", Version: "1.0.0", Large: large}), w.origin())
	w.boot(nil)
	v2 := w.site.Publish(updatetest.Spec{Name: "server", Version: "2.0.0", Large: large})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	m := w.machine()
	m.Batch = 1 // every range by itself
	plan := func() *StagePlan {
		f, err := m.Check(context.Background(), w.site.Open(), w.wanted())
		w.must(err)
		plan, err := m.PlanStage(context.Background(), f, progress.None)
		w.must(err)
		return plan
	}
	first := plan()
	if first.pieces.Len() != 3 {
		t.Fatalf("%d ranges", first.pieces.Len())
	}
	ranges := 0
	w.site.Before = func(r *http.Request) {
		if r.Header.Get("Range") != "" {
			if ranges++; ranges == 2 {
				cancel()
			}
		}
	}
	if err := m.Stage(ctx, first, progress.None); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	w.site.Before = nil
	second := plan()
	if first.Missing != 3 || second.Missing != 2 {
		t.Errorf("%d objects are missing, and then %d", first.Missing, second.Missing)
	}
	w.must(m.Stage(context.Background(), second, progress.None))
	w.boots(v2)
}

// TestCostOfAnUpdate counts at the server: a check with nothing new is one small
// request, verification adds no more than three to an update, and an update asks
// for nothing that is here.
func TestCostOfAnUpdate(t *testing.T) {
	const large = 300_000
	publish := func(s *updatetest.Site, version string) *updatetest.Release {
		return s.Publish(updatetest.Spec{Name: "server", Version: version, Large: large})
	}
	w := &world{t: t, site: updatetest.NewSite(t), c: updatetest.NewComputer(t)}
	w.c.Install(publish(w.site, "1.0.0"), w.origin())
	w.boot(nil)
	for i, requests := range []int64{3, 1, 1} { // the first sees what targets and channels say
		w.site.Server.ResetStats()
		w.check()
		if s := w.site.Server.Stats(); s.Requests != requests || s.Bytes > 10_000 {
			t.Errorf("check %d with nothing new: %+v", i, s)
		}
	}

	// Three of twelve files are new, far from each other: three ranges.
	v2 := publish(w.site, "2.0.0")
	w.site.Server.ResetStats()
	w.must(w.tryStage(w.machine()))
	s := w.site.Server.Stats()
	// Signatures, artifact and document, image and index, ranges, boot file. By
	// tags alone it would be 9: with an index, and without the first three.
	if s.Ranges != 3 || s.Requests != 3+2+2+3+1 || s.Errors > 0 {
		t.Errorf("an update: %+v", s)
	}
	if s.Bytes < 3*large || s.Bytes > 3*large+100_000 {
		t.Errorf("an update moved %d bytes, the new files have %d", s.Bytes, 3*large)
	}

	// Again: everything is here but the boot file.
	w.must(w.c.ESP().Remove(*w.look().With(Next).Entry))
	w.site.Server.ResetStats()
	w.must(w.tryStage(w.machine()))
	if s := w.site.Server.Stats(); s.Ranges != 0 || s.Requests != 1+2+1+1 {
		t.Errorf("with every object here: %+v", s)
	}
	// And not even that.
	w.rollback("1.0.0")
	w.site.Server.ResetStats()
	w.must(w.tryStage(w.machine()))
	if s := w.site.Server.Stats(); s.Requests != 1+2+1 || s.Bytes > 50_000 {
		t.Errorf("with everything here: %+v", s)
	}
	w.boots(v2)
}
