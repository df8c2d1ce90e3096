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

	"golang.org/x/sync/errgroup"

	"github.com/ashlar-os/ashlar/internal/machine/install"
	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/vmtest"
	"github.com/ashlar-os/ashlar/test/fixture"
)

// leastOfCopy is how fast installing is to be, of what cp reaches.
const leastOfCopy = 0.8

// installDisk is the disk of the virtual machine that is installed to: its id, and its
// partitions.
const (
	installDisk = "disk"
	installESP  = "/dev/nvme0n1p1"
	installRoot = "/dev/nvme0n1p2"
)

// install compares the installer's copying with that of cp, in the virtual machine:
// from the same medium to the same disk, caches dropped before each.
func (c *comparison) install(ctx context.Context) error {
	root, err := filepath.Abs(c.root)
	if err != nil {
		return err
	}
	fx, err := fixture.New(root, "bench-install", os.Stderr)
	if err != nil {
		return err
	}
	defer os.RemoveAll(fx.Dir)
	vm, err := c.bootMedium(ctx, fx)
	if err != nil {
		return err
	}
	defer vm.Close()
	var unsealed, sealed side
	ours, peer, err := c.pairs(2, // one in each order: they take minutes
		func(int) (sample, error) {
			s, err := timeInstall(ctx, vm) // which makes the partitions that the others use
			if err != nil {
				return s, err
			}
			alone, err := timeUnsealed(ctx, vm)
			unsealed = append(unsealed, alone)
			return s, err
		},
		func(int) (sample, error) {
			s, seal, err := timeCopy(ctx, vm)
			sealed = append(sealed, sample{wall: s.wall + seal.wall, cpu: s.cpu + seal.cpu})
			return s, err
		})
	if err != nil {
		return err
	}
	c.report.add(work{name: "medium → disk in the emulated machine: the installer's copying", ours: ours,
		peer: peer, peerName: "cp -a of the same files to the same disk, sync"})
	c.report.add(work{name: "the same, and the installer seals nothing", ours: unsealed})
	c.report.add(work{name: "the same, and what cp made is sealed", peer: sealed, peerName: "cp -a, sync, fs-verity, sync"})
	const what = "installing copies at, of the speed of `cp -a`"
	c.report.ratio(what, ratio(peer, ours), atLeast(leastOfCopy))
	c.report.note(what+", if the installer did not seal", ratio(peer, unsealed))
	c.report.note(what+", if that were followed by sealing", ratio(sealed, ours))
	return nil
}

// bootMedium starts a machine with an empty disk from a medium that waits to be told
// what to install, and gives it this program.
func (c *comparison) bootMedium(ctx context.Context, fx *fixture.Fixture) (*vmtest.VM, error) {
	out, signed, medium := filepath.Join(fx.Dir, "out"), filepath.Join(fx.Dir, "signed"), filepath.Join(fx.Dir, "medium.iso")
	if _, err := fx.BuildMedium(ctx, "cuts", out, filepath.Join(fx.Dir, "unsigned.iso")); err != nil {
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
		Name: "install", Dir: filepath.Join(fx.Dir, "vm"), Base: blank, Bus: vmtest.NVMe, Closed: true, Memory: 2048, CPUs: 2,
		Others: []vmtest.Disk{{Image: medium, Bus: vmtest.SATA, Boot: true}, {Image: tools}},
	})
	if err != nil {
		return nil, err
	}
	if err := vm.Boot(ctx); err != nil {
		return nil, errors.Join(err, vm.Close())
	}
	_, err = vm.Output(ctx, `set -e
systemctl is-system-running --wait >/dev/null || true
mkdir -p /run/tools /run/copy /run/esp
mount -o ro /dev/vda /run/tools
printf 'schema = 1\nthen = "wait"\n[disk]\nid = "`+installDisk+`"\nerase = "`+installDisk+`"\n[system]\nhostname = "bench"\n' >/run/answers.toml
/run/tools/ashlar-bench copy -learn -known /run/known`)
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
	return watched(ctx, vm, "ashlar install --answers /run/answers.toml",
		"ashlar-install: copying the system", "ashlar-install: writing the settings")
}

// watched runs a script, with nothing in the guest's caches, which tells the kernel's log
// when it begins and when it ends what is timed.
func watched(ctx context.Context, vm *vmtest.VM, script, begin, end string) (s sample, err error) {
	var text string
	var cpu [2]time.Duration
	if _, err := vm.Output(ctx, dropCaches); err != nil {
		return s, err
	}
	group, watching := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		text, err = vm.Output(ctx, script+` >/run/bench.log 2>&1 || { cat /run/bench.log; exit 1; }
dmesg | sed -n 's/^\[ *\([0-9.]*\)\] \(`+begin+`\|`+end+`\)$/\1/p' | tail -2`)
		return err
	})
	group.Go(func() (err error) {
		for i, words := range []string{begin, end} {
			if _, err := vm.WaitConsole(watching, words); err != nil {
				return err
			}
			if cpu[i], err = vm.CPU(); err != nil {
				return err
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return s, err
	}
	return took(text, cpu[1]-cpu[0])
}

// newRoot makes the file system of the disk's second partition anew, and mounts it.
var newRoot = "mke2fs " + strings.Join(install.RootFormat(), " ") + " " + installRoot + `
mount -o nosuid,nodev,noatime ` + installRoot + " /run/copy\n"

// timeUnsealed is timeInstall without seals.
func timeUnsealed(ctx context.Context, vm *vmtest.VM) (s sample, err error) {
	if _, err = vm.Output(ctx, "set -e\n"+newRoot+"mkfs.vfat -F 32 -s 8 "+installESP+" >/dev/null\nmount "+installESP+" /run/esp"); err != nil {
		return s, err
	}
	s, err = watched(ctx, vm, "/run/tools/ashlar-bench copy -known /run/known -root /run/copy -esp /run/esp", beginCopy, endCopy)
	if err == nil {
		_, err = vm.Output(ctx, "umount /run/copy /run/esp")
	}
	return s, err
}

// timeCopy copies the same files with cp onto a new file system of the same kind, and
// says also how long it takes to seal them.
func timeCopy(ctx context.Context, vm *vmtest.VM) (copied, sealed sample, err error) {
	if _, err = vm.Output(ctx, "set -e\n"+newRoot); err != nil {
		return copied, sealed, err
	}
	copied, err = timed(ctx, vm, "cp -a /sysroot/ashlar/objects /sysroot/ashlar/images /sysroot/ashlar/boot.efi /run/copy\nsync -f /run/copy")
	if err == nil {
		sealed, err = timed(ctx, vm, "/run/tools/ashlar-bench seal -dir /run/copy")
	}
	if err == nil {
		_, err = vm.Output(ctx, "umount /run/copy")
	}
	return copied, sealed, err
}

// timed runs a script, with nothing in the guest's caches, and asks the guest's clock.
func timed(ctx context.Context, vm *vmtest.VM, script string) (s sample, err error) {
	if _, err := vm.Output(ctx, dropCaches); err != nil {
		return s, err
	}
	before, err := vm.CPU()
	if err != nil {
		return s, err
	}
	const now = "cut -d' ' -f1 /proc/uptime\n"
	text, err := vm.Output(ctx, "set -e\n"+now+script+"\n"+now)
	if err != nil {
		return s, err
	}
	after, err := vm.CPU()
	if err != nil {
		return s, err
	}
	return took(text, after-before)
}

// took is the time between two that the guest printed, in seconds, and the emulator's
// processor time, which other work of the host does not make longer.
func took(text string, cpu time.Duration) (sample, error) {
	from, to, ok := strings.Cut(strings.TrimSpace(text), "\n")
	a, err := strconv.ParseFloat(from, 64)
	b, errB := strconv.ParseFloat(to, 64)
	if err = errors.Join(err, errB); err != nil || !ok {
		return sample{}, fmt.Errorf("the guest said %q, not two times: %w", text, err)
	}
	s := sample{wall: time.Duration((b - a) * float64(time.Second)), cpu: cpu}
	fmt.Fprintf(os.Stderr, "%.1f s in the guest, %.1f s of the emulator\n", s.wall.Seconds(), s.cpu.Seconds())
	return s, nil
}
