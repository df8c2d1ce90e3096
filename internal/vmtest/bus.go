package vmtest

import (
	"fmt"
	"strings"
)

// Bus is how a disk is attached to a machine.
type Bus string

// What disks can be behind. Each disk gets a controller of its own.
const (
	VirtioBlk  Bus = "virtio-blk"
	VirtioSCSI Bus = "virtio-scsi"
	NVMe       Bus = "nvme"
	SATA       Bus = "sata" // AHCI
	USB        Bus = "usb"  // a stick: bulk-only mass storage behind xHCI
	UAS        Bus = "uas"  // a USB disk that speaks SCSI; OVMF does not boot from one
	CD         Bus = "cd"   // a drive behind AHCI with the image as its disc, of 2048-byte sectors and read-only
)

// Disk is one more disk of a machine. What the guest writes to it is lost when
// the machine is turned off, unless it is Kept.
type Disk struct {
	Image  string // never written, unless it is Kept
	Format string // default "raw"
	Bus    Bus    // default VirtioBlk
	Boot   bool   // the firmware tries it before the machine's own disk
	Last   bool   // or after that
	Kept   bool   // the guest writes to Image itself
}

// devices are QEMU's arguments that attach a drive. order is its place in the
// firmware's boot order, from 1, or 0 where the firmware need not boot from it.
func (b Bus) devices(drive string, order int) ([]string, error) {
	model := ""
	var controller []string
	switch b {
	case VirtioBlk, "":
		model = "virtio-blk-pci,serial=" + drive
	case VirtioSCSI:
		controller = []string{"-device", "virtio-scsi-pci,id=" + drive + "-hba"}
		model = "scsi-hd,bus=" + drive + "-hba.0"
	case NVMe:
		model = "nvme,serial=" + drive
	case SATA:
		controller = []string{"-device", "ahci,id=" + drive + "-hba"}
		model = "ide-hd,bus=" + drive + "-hba.0"
	case CD:
		controller = []string{"-device", "ahci,id=" + drive + "-hba"}
		model = "ide-cd,bus=" + drive + "-hba.0"
	case USB:
		controller = []string{"-device", "qemu-xhci,id=" + drive + "-hub"}
		model = "usb-storage,bus=" + drive + "-hub.0"
	case UAS:
		controller = []string{"-device", "qemu-xhci,id=" + drive + "-hub", "-device", "usb-uas,id=" + drive + "-hba,bus=" + drive + "-hub.0"}
		model = "scsi-hd,bus=" + drive + "-hba.0"
	default:
		return nil, fmt.Errorf("disk %q: there is no bus %q", drive, string(b))
	}
	model += ",drive=" + drive
	if order > 0 {
		model += fmt.Sprintf(",bootindex=%d", order)
	}
	return append(controller, "-device", model), nil
}

// disks are QEMU's arguments for all disks. The others come first, so that
// they get the names that a disk which is alone would have.
func (vm *VM) disks() ([]string, error) {
	var args []string
	order := 0
	for i, d := range vm.Others {
		name := fmt.Sprintf("other%d", i+1)
		format := d.Format
		if format == "" {
			format = "raw"
		}
		place := 0
		if d.Boot {
			order++
			place = order
		}
		if d.Last {
			place = len(vm.Others) + 1 + i
		}
		devices, err := d.Bus.devices(name, place)
		if err != nil {
			return nil, err
		}
		writes := "snapshot=on"
		if d.Kept {
			writes = "discard=unmap"
		}
		args = append(args, "-drive", d.Bus.drive(name, format, d.Image, writes))
		args = append(args, devices...)
	}
	devices, err := vm.Bus.devices("disk", order+1)
	if err != nil {
		return nil, err
	}
	disk := []string{"-drive", vm.Bus.drive("disk", vm.format, vm.disk, "discard=unmap")}
	if vm.Record {
		if disk, err = vm.recordedDisk(); err != nil {
			return nil, err
		}
		// QEMU joins a guest's requests to as many pieces as one pwritev(2) takes, and the
		// log adds some of its own.
		if vm.Bus == VirtioBlk || vm.Bus == "" {
			devices[len(devices)-1] += ",request-merging=off"
		}
	}
	return append(append(args, disk...), devices...), nil
}

// drive is QEMU's option for what is in a drive. Nothing is written to a disc, so
// what a disk would do with writes does not apply to it.
func (b Bus) drive(name, format, file, writes string) string {
	if b == CD {
		writes = "media=cdrom,readonly=on"
	}
	return strings.Join([]string{"if=none", "id=" + name, writes, "format=" + format, "file=" + comma(file)}, ",")
}
