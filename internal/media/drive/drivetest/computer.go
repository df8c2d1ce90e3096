package drivetest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Computer is a made-up computer: a tree with its sys, proc and dev.
type Computer struct {
	Root string
	t    testing.TB
}

// NewComputer has no drives.
func NewComputer(t testing.TB) *Computer {
	t.Helper()
	c := &Computer{t.TempDir(), t}
	c.File("proc/self/mountinfo", "")
	c.File("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n")
	return c
}

// File writes a file of the computer.
func (c *Computer) File(path, content string) {
	c.t.Helper()
	full := filepath.Join(c.Root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// Drive adds a drive; facts are files below its directory.
func (c *Computer) Drive(name, place, dev string, sectors string, facts map[string]string) {
	c.t.Helper()
	dir := filepath.Join("sys/devices", place, "block", name)
	c.File(filepath.Join(dir, "dev"), dev+"\n")
	c.File(filepath.Join(dir, "size"), sectors+"\n")
	c.File(filepath.Join(dir, "ro"), "0\n")
	c.File(filepath.Join(dir, "removable"), "0\n")
	for path, content := range facts {
		c.File(filepath.Join(dir, path), content+"\n")
	}
	if err := os.MkdirAll(filepath.Join(c.Root, "sys/block"), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join("../devices", place, "block", name), filepath.Join(c.Root, "sys/block", name)); err != nil {
		c.t.Fatal(err)
	}
	c.File("dev/"+name, strings.Repeat("\x00", 1<<17))
}

// Partition adds a partition to a drive.
func (c *Computer) Partition(name, dev string) {
	whole := strings.TrimRight(name, "0123456789")
	if strings.HasPrefix(name, "mmc") || strings.HasPrefix(name, "nvme") {
		whole = strings.TrimSuffix(whole, "p")
	}
	dir := filepath.Join("sys/block", whole, name)
	c.File(filepath.Join(dir, "partition"), name[len(name)-1:])
	c.File(filepath.Join(dir, "dev"), dev)
	c.File(filepath.Join(dir, "start"), "2048")
	c.File(filepath.Join(dir, "size"), "20480")
}

// Mount adds a line to mountinfo.
func (c *Computer) Mount(dev, point, kind, source string) {
	path := filepath.Join(c.Root, "proc/self/mountinfo")
	b, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	c.File("proc/self/mountinfo", string(b)+"36 35 "+dev+" / "+point+" rw,noatime shared:1 - "+kind+" "+source+" rw\n")
}

// USB is the place of a stick among the devices.
const USB = "pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host6/target6:0:0/6:0:0:0"

// Laptop has a disk with LVM below its root, a stick, a card, and a USB disk.
func Laptop(t testing.TB) *Computer {
	t.Helper()
	c := NewComputer(t)
	c.Drive("nvme0n1", "pci0000:00/0000:00:1d.0/nvme/nvme0", "259:0", "1000215216", map[string]string{
		"device/model": "SAMSUNG MZVL2512", "device/serial": "S64KNX0R", "slaves/.keep": "",
	})
	c.Partition("nvme0n1p1", "259:1")
	c.Partition("nvme0n1p2", "259:2")
	c.File("sys/block/nvme0n1/nvme0n1p2/holders/dm-0", "")
	c.Drive("dm-0", "virtual", "254:0", "900000000", map[string]string{"dm/name": "vg-root", "slaves/nvme0n1p2": ""})
	c.Mount("254:0", "/", "ext4", "/dev/mapper/vg-root")
	c.Mount("259:1", "/boot/efi", "vfat", "/dev/nvme0n1p1")
	c.Drive("sdb", USB, "8:16", "60063744", map[string]string{
		"device/vendor": "SanDisk ", "device/model": "Ultra           ", "removable": "1",
	})
	c.File("sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/idVendor", "0781\n")
	c.File("sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/serial", "4C530001\n")
	c.Partition("sdb1", "8:17")
	c.Drive("sdc", "pci0000:00/0000:00:14.0/usb1/1-3/1-3:1.0/host7/target7:0:0/7:0:0:0", "8:32", "7814037168", map[string]string{
		"device/vendor": "WD", "device/model": "Elements", "device/vpd_pg80": "\x00\x80\x00\x08WX11D123",
	})
	c.Drive("mmcblk0", "pci0000:00/mmc_host/mmc0/mmc0:aaaa", "179:0", "62333952", map[string]string{
		"device/name": "SC32G", "device/type": "SD", "device/serial": "0x12345678",
	})
	c.Drive("loop0", "virtual", "7:0", "204800", map[string]string{"loop/backing_file": "/home/me/stick.img"})
	c.Drive("loop1", "virtual", "7:1", "0", nil)
	c.Drive("sr0", "pci0000:00/ata2/host1", "11:0", "2097151", map[string]string{"removable": "1"})
	c.Drive("zram0", "virtual", "253:0", "100", nil)
	return c
}
