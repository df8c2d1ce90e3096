package vmtest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// TestBuses has QEMU build a machine of each kind, with a second disk.
func TestBuses(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	disk := testDisk(t)
	for _, bus := range []Bus{"", VirtioBlk, VirtioSCSI, NVMe, SATA, USB, UAS, CD} {
		vm := New(t, Config{Name: "bus-" + string(bus), Base: disk, Bus: bus, Others: []Disk{{Image: disk, Bus: bus, Boot: true}}})
		if err := vm.Type("x"); !errors.Is(err, ErrOff) {
			t.Errorf("typing at a machine that is off: %v", err)
		}
		if err := vm.Start(ctx); err != nil {
			t.Errorf("a disk on bus %q: %v", bus, err)
		}
		if err := vm.Type("x"); err != nil {
			t.Errorf("typing with a disk on bus %q: %v", bus, err)
		}
		vm.PowerCut()
	}
	vm := New(t, Config{Base: disk, Bus: "floppy"})
	if err := vm.Start(ctx); err == nil || !strings.Contains(err.Error(), `no bus "floppy"`) {
		t.Errorf("the error is %v", err)
	}
	if vm.On() {
		t.Error("it is on all the same")
	}
}

// TestKeptDisk: of the other disks only one that is kept is opened to be written.
func TestKeptDisk(t *testing.T) {
	vm := &VM{Config: Config{Others: []Disk{{Image: "lost"}, {Image: "kept", Kept: true}}}, disk: "own", format: "qcow2"}
	args, err := vm.disks()
	if err != nil {
		t.Fatal(err)
	}
	for _, arg := range args {
		if lost := strings.Contains(arg, "snapshot=on"); lost != strings.HasSuffix(arg, "file=lost") {
			t.Errorf("of %q what is written is lost: %v", arg, lost)
		}
	}
	if all := strings.Join(args, " "); !strings.Contains(all, "file=kept") || !strings.Contains(all, "file=lost") {
		t.Errorf("the disks are %s", all)
	}
}
