package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ashlar-os/ashlar/internal/vmtest"
	"github.com/ashlar-os/ashlar/test/fixture"
)

// maxInit is how large the first process may be, and maxHandOver how long it may
// take from the kernel's start of it to its start of systemd.
const (
	maxInit     = 6e6 // bytes
	maxHandOver = 1500 * time.Millisecond
)

// boot times the first process in the virtual machine that the stories use. The
// machine's first boot, which seals the disk, is not counted.
func (c *comparison) boot(ctx context.Context) error {
	root, err := filepath.Abs(c.root)
	if err != nil {
		return err
	}
	fx, err := fixture.New(root, "bench-boot", os.Stderr)
	if err != nil {
		return err
	}
	defer os.RemoveAll(fx.Dir)
	recipe := filepath.Join(root, "test", "recipes", "v1.toml")
	if _, err := fx.Ashlar(ctx, "build", recipe, "-o", fx.Out(), "--lock", filepath.Join(fx.Dir, "lock"), "--cache", fx.Cache, "--update-lock"); err != nil {
		return err
	}
	if err := fx.MakeDisk(ctx); err != nil {
		return err
	}
	vm, err := vmtest.Create(ctx, vmtest.Config{Name: "boot", Dir: filepath.Join(fx.Dir, "vm"), Base: fx.Disk()})
	if err != nil {
		return err
	}
	defer vm.Close()
	if err := vm.Boot(ctx); err != nil {
		return err
	}
	var boots side
	for range c.runs {
		took, err := bootAgain(ctx, vm)
		if err != nil {
			return err
		}
		boots = append(boots, sample{wall: took})
	}
	took := boots.wall()
	c.report.findings = append(c.report.findings, finding{
		what:   "ashlar-init, from the kernel to systemd, in the emulated test machine",
		figure: fmt.Sprintf("%.2f s", took.Seconds()), target: "< 1.5 s", missed: took >= maxHandOver,
	})
	return nil
}

// bootAgain restarts the machine and reads what the first process noted of its
// own time. systemd is given the time to come up: the next restart is to be an
// orderly one.
func bootAgain(ctx context.Context, vm *vmtest.VM) (time.Duration, error) {
	const settled = "systemctl is-system-running --wait >/dev/null; "
	if _, err := vm.Output(ctx, settled+"true"); err != nil {
		return 0, err
	}
	if err := vm.Reboot(ctx); err != nil {
		return 0, err
	}
	text, err := vm.Output(ctx, settled+"cat /run/ashlar/boot.json")
	if err != nil {
		return 0, err
	}
	var record struct {
		InitMS int64 `json:"init_ms"`
		Sealed int   `json:"sealed"`
	}
	if err := json.Unmarshal([]byte(text), &record); err != nil {
		return 0, fmt.Errorf("reading boot.json: %w", err)
	}
	if record.Sealed != 0 {
		return 0, fmt.Errorf("the machine sealed %d objects at its second boot", record.Sealed)
	}
	return time.Duration(record.InitMS) * time.Millisecond, nil
}

// binaries looks at the size of the first process, which every boot file carries.
func (c *comparison) binaries(context.Context) error {
	st, err := os.Stat(c.init)
	if err != nil {
		return err
	}
	c.report.findings = append(c.report.findings, finding{
		what:   "ashlar-init, its binary",
		figure: fmt.Sprintf("%.1f MB", float64(st.Size())/1e6), target: "< 6 MB", missed: st.Size() >= maxInit,
	})
	return nil
}
