package torture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/vmtest"
	"github.com/ashlar-os/ashlar/internal/vmtest/writelog"
)

// bootLimit is how long a boot may take, with all that is asked after it. The
// emulated machines of a busy computer are slow.
const bootLimit = 10 * time.Minute

// Boot turns a machine on that has the disk of a cut. Systemd must come up with
// nothing failed, in a release that was allowed, and what was flushed to /var and /etc
// must be there. Every byte of every release must verify, or else after `ashlar verify
// --repair`; then repaired is what was found wrong. The site has to be served, see Serve.
// The console's log is kept in dir.
func (rec *Recording) Boot(ctx context.Context, c writelog.Cut, d Demand, dir string) (repaired string, err error) {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	disk := filepath.Join(dir, "cut.raw")
	defer func() { err = errors.Join(err, os.Remove(disk)) }()
	if err := rec.writeDisk(c, disk); err != nil {
		return "", err
	}
	config := vmtest.Config{Name: "cut", Dir: dir, Base: disk}
	if rec.Medium != "" {
		config.Closed, config.Offline = true, true
	}
	vm, err := vmtest.Create(ctx, config)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, vm.Close()) }()
	if err := vm.Boot(ctx); err != nil {
		return "", err
	}
	if rec.Medium != "" {
		return "", rec.expectInstalled(ctx, vm)
	}
	if err := expectUp(ctx, vm, d); err != nil {
		return "", fmt.Errorf("%w (console: %s)", err, vm.Log)
	}
	verify, err := vm.Run(ctx, "ashlar verify")
	if err != nil || verify.Code == 0 {
		return "", err
	}
	repaired = verify.Stdout + verify.Stderr
	if _, err := vm.Output(ctx, "ashlar verify --repair"); err != nil {
		return "", fmt.Errorf("%w; before that it was: %s (console: %s)", err, repaired, vm.Log)
	}
	return repaired, nil
}

// expectUp sees that a machine has come up as it must.
func expectUp(ctx context.Context, vm *vmtest.VM, d Demand) error {
	state, err := vm.Output(ctx, waitUp)
	if err != nil {
		return err
	}
	if state != "running" {
		return fmt.Errorf("systemd is %s", state)
	}
	version, err := vm.Output(ctx, runningVersion)
	if err != nil {
		return err
	}
	if !slices.Contains(d.Boots, version) {
		return fmt.Errorf("release %q came up, want one of %q", version, d.Boots)
	}
	var script, want strings.Builder
	for _, p := range d.Promises {
		fmt.Fprintf(&script, "cat /var/%s; ", p.Path)
		want.WriteString(p.Content)
	}
	if d.Settings {
		script.WriteString(showSettings)
		want.WriteString(settings)
	}
	content, err := vm.Output(ctx, script.String())
	if err != nil {
		return err
	}
	if content != strings.TrimSuffix(want.String(), "\n") {
		return fmt.Errorf("of what was flushed to /var and /etc there is %q, want %q", content, want.String())
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
