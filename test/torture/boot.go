package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/vmtest"
	"github.com/ashlar-os/ashlar/internal/vmtest/writelog"
)

// Sample chooses cuts to boot from: from each phase of the machine's life in turn,
// and there as often from those in the middle of writes to the ESP as from others.
// They are in the order of the log, and the same for the same seed.
func (j *Judge) Sample(cuts []writelog.Cut, n int, seed uint64) []writelog.Cut {
	type stratum struct {
		phase string
		esp   bool
	}
	var order []stratum
	strata := make(map[stratum][]int)
	for i, c := range cuts {
		s := stratum{j.Demands(c).Phase, j.log.Writes(c, j.esp.Section)}
		if strata[s] == nil {
			order = append(order, s)
		}
		strata[s] = append(strata[s], i)
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	var chosen []int
	for n = min(n, len(cuts)); len(chosen) < n; {
		for _, s := range order {
			if list := strata[s]; len(list) > 0 && len(chosen) < n {
				k := rng.IntN(len(list))
				chosen = append(chosen, list[k])
				strata[s] = slices.Delete(list, k, k+1)
			}
		}
	}
	slices.Sort(chosen)
	var sample []writelog.Cut
	for _, i := range chosen {
		sample = append(sample, cuts[i])
	}
	return sample
}

// bootLimit is how long a boot may take, with all that is asked after it. The
// emulated machines of a busy computer are slow.
const bootLimit = 10 * time.Minute

// Boot turns a machine on that has the disk of a cut. Systemd must come up with
// nothing failed, in a release that was allowed, every byte of which verifies, and
// what was flushed to /var must be there. The console's log is kept in dir.
func (rec *Recording) Boot(ctx context.Context, c writelog.Cut, d Demand, dir string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	disk := filepath.Join(dir, "cut.raw")
	defer func() { err = errors.Join(err, os.Remove(disk)) }()
	if err := rec.writeDisk(c, disk); err != nil {
		return err
	}
	vm, err := vmtest.Create(ctx, vmtest.Config{Name: "cut", Dir: dir, Base: disk})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, vm.Close()) }()
	if err := vm.Boot(ctx); err != nil {
		return err
	}
	state, err := vm.Output(ctx, waitUp)
	if err != nil {
		return err
	}
	if state != "running" {
		return fmt.Errorf("systemd is %s (console: %s)", state, vm.Log)
	}
	version, err := vm.Output(ctx, runningVersion)
	if err != nil {
		return err
	}
	if !slices.Contains(d.Boots, version) {
		return fmt.Errorf("release %q came up, want one of %q (console: %s)", version, d.Boots, vm.Log)
	}
	var script, want strings.Builder
	for _, p := range d.Promises {
		fmt.Fprintf(&script, "cat /var/%s; ", p.Path)
		want.WriteString(p.Content)
	}
	content, err := vm.Output(ctx, script.String()+"ashlar verify >&2")
	if err != nil {
		return err
	}
	if content != strings.TrimSuffix(want.String(), "\n") {
		return fmt.Errorf("of what was flushed to /var there is %q, want %q (console: %s)", content, want.String(), vm.Log)
	}
	return nil
}

// writeDisk writes the disk of a cut to a sparse file.
func (rec *Recording) writeDisk(c writelog.Cut, name string) error {
	return rec.open(func(_ *writelog.Log, replay *writelog.Replay) error {
		if err := replay.Seek(c); err != nil {
			return err
		}
		image, err := replay.NewImage(name, writelog.Section{Length: replay.Size()})
		if err != nil {
			return err
		}
		return image.Close()
	})
}

// Scratch makes a directory for the files of a Judge: in memory where there is room
// for them, because e2fsck waits for the disk each time, or else below dir.
func Scratch(dir string) (string, error) {
	const memory, room = "/dev/shm", 6 << 30
	var st unix.Statfs_t
	if err := unix.Statfs(memory, &st); err == nil && int64(st.Bavail)*st.Bsize > room {
		if name, err := os.MkdirTemp(memory, "torture"); err == nil {
			return name, nil
		}
	}
	return os.MkdirTemp(dir, "torture")
}
