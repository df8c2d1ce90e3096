//go:build vm

package vm

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/test/torture"
)

// What is looked at and booted here. `make torture` does more of both.
const (
	tortureOthers = 3  // cuts of each epoch, beside the one in which it was dropped
	tortureBoots  = 12 // of these
)

var tortureSeed = flag.Uint64("torture-seed", 1, "another number chooses other power cuts")

// TestTorture records all that a machine writes in a life of updates, looks at the
// disks that power cuts could have left, and boots some.
func TestTorture(t *testing.T) {
	t.Parallel()
	t.Logf("seed %d (another: go test … -torture-seed N)", *tortureSeed)
	dir := filepath.Join(fx.Dir, t.Name())
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	began := time.Now()
	rec, err := torture.Record(ctx, fx, sealed, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("recorded in %s", time.Since(began).Round(time.Second))

	j := openJudge(t, ctx, rec)
	began = time.Now()
	bootable, err := j.LookAll(ctx, j.Cuts(*tortureSeed, tortureOthers), func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("looked at in %s: %v", time.Since(began).Round(time.Second), j.Report)
	if j.Report.Careless == 0 {
		t.Error("no cut lost what was not flushed: these are not the disks that cuts leave")
	}
	site, err := rec.Serve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { site.Close() })
	doings := make(map[string]int)
	for i, c := range j.Sample(bootable, tortureBoots, *tortureSeed) {
		demand := j.Demands(c)
		doings[demand.Doing]++
		t.Run(fmt.Sprintf("boot %d", i+1), func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			repaired, err := rec.Boot(context.Background(), c, demand, filepath.Join(dir, fmt.Sprintf("boot-%d", i+1)))
			if err != nil {
				t.Errorf("%v, in the phase %q: %v", c, demand.Phase, err)
			}
			t.Logf("%v, in the phase %q: %s %s", c, demand.Phase, time.Since(began).Round(time.Second), repaired)
		})
	}
	for _, doing := range torture.Doings {
		if doings[doing] == 0 {
			t.Errorf("no cut in the middle of %q is booted: %v", doing, doings)
		}
	}
	t.Run("without flushes", func(t *testing.T) { withoutFlushes(t, ctx, rec) })
}

// withoutFlushes sees that the judge can find fault: with a machine that wrote the
// same and never flushed.
func withoutFlushes(t *testing.T, ctx context.Context, rec *torture.Recording) {
	j := openJudge(t, ctx, rec)
	j.ForgetFlushes()
	if _, err := j.LookAll(ctx, j.Cuts(*tortureSeed, 20), func(error) {}); err != nil {
		t.Fatal(err)
	}
	if t.Logf("%v", j.Report); j.Report.Violations == 0 {
		t.Errorf("a machine that never flushes passes: %v", j.Report)
	}
}

func openJudge(t *testing.T, ctx context.Context, rec *torture.Recording) *torture.Judge {
	t.Helper()
	scratch, err := torture.Scratch(fx.Dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(scratch); err != nil {
			t.Error(err)
		}
	})
	j, err := torture.NewJudge(ctx, rec, scratch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}
