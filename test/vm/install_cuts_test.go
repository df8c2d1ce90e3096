//go:build vm && slow

package vm

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/test/torture"
)

// What is looked at and booted here. `make torture` does more of both.
const (
	installCutsOthers = 8 // cuts of each epoch, beside the one in which it was dropped
	installCutsBoots  = 3 // of those that firmware finds
)

// TestInstallCuts records all that an installation writes to a blank disk, looks at the
// disks that power cuts could have left, boots some of those that boot, and installs again
// on one that firmware passes over.
func TestInstallCuts(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(fx.Dir, t.Name())
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Minute)
	defer cancel()
	began := time.Now()
	rec, err := torture.RecordInstall(ctx, fx, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("recorded in %s", time.Since(began).Round(time.Second))

	j := openJudge(t, ctx, rec)
	began = time.Now()
	bootable, err := j.LookAll(ctx, j.Cuts(*tortureSeed, installCutsOthers), func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("looked at in %s: %v", time.Since(began).Round(time.Second), j.Report)
	if len(bootable) < installCutsBoots || len(j.Passed) == 0 {
		t.Fatalf("%d disks boot, and firmware passes over %d: want some of both", len(bootable), len(j.Passed))
	}
	for i, c := range j.Sample(bootable, installCutsBoots, *tortureSeed) {
		demand := j.Demands(c)
		t.Run(fmt.Sprintf("boot %d", i+1), func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			if _, err := rec.Boot(context.Background(), c, demand, filepath.Join(dir, fmt.Sprintf("boot-%d", i+1))); err != nil {
				t.Errorf("%v, in the phase %q: %v", c, demand.Phase, err)
			}
			t.Logf("%v, in the phase %q: %s", c, demand.Phase, time.Since(began).Round(time.Second))
		})
	}
	t.Run("again", func(t *testing.T) {
		t.Parallel()
		c := j.Passed[len(j.Passed)/2]
		began := time.Now()
		if err := rec.Reinstall(context.Background(), c, filepath.Join(dir, "again")); err != nil {
			t.Errorf("%v, in the phase %q: %v", c, j.Demands(c).Phase, err)
		}
		t.Logf("%v, in the phase %q: %s", c, j.Demands(c).Phase, time.Since(began).Round(time.Second))
	})
	t.Run("without flushes", func(t *testing.T) { withoutFlushes(t, ctx, rec) })
}
