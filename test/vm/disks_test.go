//go:build vm

package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/vmtest"
)

// TestEveryBus boots one disk behind each kind of controller that the test
// image's kernel drives, while a twin is plugged in: the same image, labels and
// file system UUIDs, only the partitions' own UUIDs differ. The twin has the better name
// and is often there first; the root must be the disk that the firmware booted.
//
// Debian's cloud kernel has no USB storage (docs/initramfs.md).
func TestEveryBus(t *testing.T) {
	t.Parallel()
	twin := filepath.Join(t.TempDir(), "twin.raw")
	maker := newMachine(t, sealed, "twin")
	maker.step("copying the disk", func(ctx context.Context) error { return maker.Snapshot(ctx, twin) })
	maker.step("new UUIDs for the twin", func(ctx context.Context) error {
		_, err := program.Run(ctx, program.Command{Args: []string{"sgdisk", "-G", twin}})
		return err
	})
	ours, theirs := partUUIDs(t, sealed), partUUIDs(t, twin)

	for _, bus := range []struct{ ours, twins vmtest.Bus }{
		{vmtest.NVMe, vmtest.VirtioBlk},
		{vmtest.SATA, vmtest.SATA},
		{vmtest.VirtioSCSI, vmtest.VirtioSCSI},
	} {
		t.Run(fmt.Sprintf("%s beside %s", bus.ours, bus.twins), func(t *testing.T) {
			m := newMachineWith(t, vmtest.Config{
				Name: string(bus.ours), Base: sealed, Bus: bus.ours,
				Others: []vmtest.Disk{{Image: twin, Bus: bus.twins}},
			})
			m.boot()
			m.sh("udevadm wait --timeout=60 /dev/disk/by-partuuid/" + theirs[1]) // it is there
			for _, mount := range []struct{ at, uuid string }{{"/sysroot", ours[1]}, {"/var", ours[1]}, {"/efi", ours[0]}} {
				m.expect("partition at "+mount.at, m.sh("ls "+mount.at+" >/dev/null; lsblk -no PARTUUID $(findmnt -nvo SOURCE -t vfat,ext4 "+mount.at+")"), mount.uuid)
			}
		})
	}
}

// TestIdenticalDisks: where nothing tells two disks apart, neither is taken.
func TestIdenticalDisks(t *testing.T) {
	t.Parallel()
	m := newMachineWith(t, vmtest.Config{Base: sealed, Others: []vmtest.Disk{{Image: sealed}}})
	m.step("start", m.Start)
	m.step("refusal", func(ctx context.Context) error {
		_, err := m.WaitConsole(ctx, `cannot boot: the disks "vda" and "vdb" both have the ESP .* they are copies`)
		return err
	})
	m.PowerCut()
}

// TestPowerCutWhileSealing: a first boot that is cut is made again by the next.
func TestPowerCutWhileSealing(t *testing.T) {
	t.Parallel()
	m := newMachine(t, fx.Disk(), "vm")
	for range 2 { // the second cut is in a boot that goes on after the first
		m.step("start", m.Start)
		m.step("sealing", func(ctx context.Context) error {
			_, err := m.WaitConsole(ctx, `ashlar-init: sealed [0-9]+ objects`)
			return err
		})
		m.PowerCut()
	}
	m.boot()
	m.sh("! test -e /sysroot/ashlar/unsealed")
	m.expectContains("verify", m.sh("ashlar verify"), "good:")
	if n := m.sealedByBoot(); n == 0 {
		t.Error("the boot after the cuts had nothing to seal: they came too late")
	}
}

// newMachineWith makes a VM that is more than a disk. Its log is named after the story.
func newMachineWith(t *testing.T, cfg vmtest.Config) *machine {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "vm"
	}
	cfg.Dir = filepath.Join(fx.Dir, t.Name(), cfg.Name)
	return &machine{VM: vmtest.New(t, cfg), t: t}
}

// sealedByBoot is how many objects and images the present boot sealed.
func (m *machine) sealedByBoot() int {
	m.t.Helper()
	var record struct{ Sealed int }
	if err := json.Unmarshal([]byte(m.sh("cat /run/ashlar/boot.json")), &record); err != nil {
		m.t.Fatal(err)
	}
	return record.Sealed
}

// partUUIDs are the partitions' own UUIDs, as udev writes them.
func partUUIDs(t *testing.T, raw string) []string {
	t.Helper()
	ctx, cancel := stepContext()
	defer cancel()
	var list []string
	for part := 1; part <= 2; part++ {
		out, err := program.Run(ctx, program.Command{Args: []string{"sfdisk", "--part-uuid", raw, fmt.Sprint(part)}})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, strings.ToLower(strings.TrimSpace(string(out))))
	}
	return list
}
