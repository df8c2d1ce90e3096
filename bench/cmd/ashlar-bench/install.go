package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ashlar-os/ashlar/internal/machine/install"
	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/vmtest"
	"github.com/ashlar-os/ashlar/test/fixture"
)

// leastOfCopy is how fast installing is to be, of what cp reaches.
const leastOfCopy = 0.8

// installDisk is the disk of the virtual machine that is installed to: its id, and its
// partition for the system.
const (
	installDisk = "disk"
	installRoot = "/dev/nvme0n1p2"
)

// install compares the installer's copying with that of cp, in the virtual machine:
// from the same medium to the same disk, caches dropped before each.
func (c *comparison) install(ctx context.Context) error {
	vm, err := c.bootMedium(ctx)
	if err != nil {
		return err
	}
	defer vm.Close()
	var sealed side
	ours, peer, err := c.inTurn(
		func(int) (sample, error) { return timeInstall(ctx, vm) },
		func(int) (sample, error) {
			s, seal, err := timeCopy(ctx, vm)
			sealed = append(sealed, sample{wall: s.wall + seal})
			return s, err
		})
	if err != nil {
		return err
	}
	c.report.add(work{name: "medium → disk, in the emulated machine: the installer's copying", ours: ours, peer: peer,
		peerName: "cp -a of the same files to the same disk, sync"})
	c.report.add(work{peer: sealed, peerName: "cp -a, sync, and what cp made sealed with fs-verity, sync"})
	c.report.ratio("installing from a medium reaches, of the speed of `cp -a`", ratio(peer, ours), atLeast(leastOfCopy))
	c.report.note("installing from a medium reaches, of the speed of `cp -a` and sealing", ratio(sealed, ours))
	return nil
}

// bootMedium starts a machine with an empty disk from a medium that waits to be told
// what to install, and gives it this program.
func (c *comparison) bootMedium(ctx context.Context) (_ *vmtest.VM, err error) {
	root, err := filepath.Abs(c.root)
	if err != nil {
		return nil, err
	}
	fx, err := fixture.New(root, "bench-install", os.Stderr)
	if err != nil {
		return nil, err
	}
	out, signed, medium := filepath.Join(fx.Dir, "out"), filepath.Join(fx.Dir, "signed"), filepath.Join(fx.Dir, "medium.iso")
	if _, err := fx.BuildMedium(ctx, "closed", out, filepath.Join(fx.Dir, "unsigned.iso")); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"publish", out + ":1.0.0", "oci:" + signed, "--channel", "stable", "--keys", fx.KeysDir()},
		{"media", "write", signed, "--root", filepath.Join(fx.KeysDir(), "root.json"), "-o", medium},
	} {
		if _, err := fx.Ashlar(ctx, args...); err != nil {
			return nil, err
		}
	}
	blank, tools := filepath.Join(fx.Dir, "blank"), filepath.Join(fx.Dir, "tools")
	if err := os.WriteFile(blank, nil, 0o644); err != nil {
		return nil, err
	}
	if err := os.Truncate(blank, 8<<30); err != nil {
		return nil, err
	}
	if err := c.packSelf(ctx, tools); err != nil {
		return nil, err
	}
	vm, err := vmtest.Create(ctx, vmtest.Config{
		Name: "install", Dir: filepath.Join(fx.Dir, "vm"), Base: blank, Bus: vmtest.NVMe, Closed: true, Memory: 2048,
		Others: []vmtest.Disk{{Image: medium, Bus: vmtest.SATA, Boot: true}, {Image: tools}},
	})
	if err != nil {
		return nil, err
	}
	if err := vm.Boot(ctx); err != nil {
		return nil, errors.Join(err, vm.Close())
	}
	_, err = vm.Output(ctx, `systemctl is-system-running --wait >/dev/null
mkdir -p /run/tools /run/copy && mount -o ro /dev/vda /run/tools
printf 'schema = 1\nthen = "wait"\n[disk]\nid = "`+installDisk+`"\nerase = "`+installDisk+`"\n[system]\nhostname = "bench"\n[user]\nname = "ada"\npassword = "secret words"\n' >/run/answers.toml`)
	if err != nil {
		return nil, errors.Join(err, vm.Close())
	}
	return vm, nil
}

// packSelf makes a disk with this program on it.
func (c *comparison) packSelf(ctx context.Context, disk string) error {
	dir := disk + ".d"
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	_, err := program.Run(ctx, program.Command{Args: []string{"cp", c.self, filepath.Join(dir, "ashlar-bench")}})
	if err == nil {
		_, err = program.Run(ctx, program.Command{Args: []string{"mke2fs", "-q", "-t", "ext4", "-d", dir, disk, "100M"}})
	}
	return err
}

// dropCaches is before everything that is timed in the guest.
const dropCaches = "sync; echo 3 >/proc/sys/vm/drop_caches\n"

// timeInstall installs, and reads from the kernel's log how long copying took: up to
// the next step, which begins when all is on the disk.
func timeInstall(ctx context.Context, vm *vmtest.VM) (sample, error) {
	text, err := vm.Output(ctx, dropCaches+`ashlar install --answers /run/answers.toml >/run/install.log 2>&1 || { cat /run/install.log; exit 1; }
dmesg | sed -n 's/^\[ *\([0-9.]*\)\] ashlar-install: \(copying the system\|writing the settings\)$/\1/p' | tail -2`)
	if err != nil {
		return sample{}, err
	}
	return between(text)
}

// timeCopy copies the same files with cp onto a new file system of the same kind, and
// says also how long it takes to seal them.
func timeCopy(ctx context.Context, vm *vmtest.VM) (s sample, seal time.Duration, err error) {
	text, err := vm.Output(ctx, `set -e
mke2fs `+strings.Join(install.RootFormat(), " ")+" "+installRoot+`
mount -o nosuid,nodev,noatime `+installRoot+` /run/copy
`+dropCaches+`cut -d' ' -f1 /proc/uptime
cp -a /sysroot/ashlar/objects /sysroot/ashlar/images /sysroot/ashlar/boot.efi /run/copy
sync -f /run/copy
cut -d' ' -f1 /proc/uptime
`+dropCaches+`cut -d' ' -f1 /proc/uptime
/run/tools/ashlar-bench seal -dir /run/copy
cut -d' ' -f1 /proc/uptime
umount /run/copy`)
	if err != nil {
		return s, 0, err
	}
	lines := strings.Split(text, "\n")
	if len(lines) != 4 {
		return s, 0, fmt.Errorf("the guest said %q, not four times", text)
	}
	if s, err = between(strings.Join(lines[:2], "\n")); err != nil {
		return s, 0, err
	}
	sealing, err := between(strings.Join(lines[2:], "\n"))
	return s, sealing.wall, err
}

// between is the time from the first to the second of two lines, in seconds.
func between(text string) (sample, error) {
	from, to, ok := strings.Cut(text, "\n")
	a, err := strconv.ParseFloat(from, 64)
	b, errB := strconv.ParseFloat(to, 64)
	if err = errors.Join(err, errB); err != nil || !ok {
		return sample{}, fmt.Errorf("the guest said %q, not two times: %w", text, err)
	}
	return sample{wall: time.Duration((b - a) * float64(time.Second))}, nil
}
