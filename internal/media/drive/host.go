package drive

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Host is a computer.
type Host struct {
	Root string // the directory with its sys, proc and dev; "/" is this computer
}

// This is the computer that this process runs on.
var This = Host{Root: "/"}

// Drive is a whole drive, not a partition of one.
type Drive struct {
	Name       string      `json:"name"` // as the kernel calls it now: "sdb"
	Path       string      `json:"path"` // "/dev/sdb"
	Model      string      `json:"model"`
	Serial     string      `json:"serial"`
	Transport  string      `json:"transport"` // "usb", "sd" (cards), "ata", "nvme", "virtio", "scsi", "loop", or ""
	Size       int64       `json:"size"`      // bytes
	Sector     int64       `json:"sector"`    // bytes of a logical sector
	Removable  bool        `json:"removable"` // its medium can be taken out, or the whole drive
	ReadOnly   bool        `json:"read_only"`
	Content    string      `json:"content"` // in words; empty where it cannot be read
	Partitions []Partition `json:"partitions"`
}

// Partition is a part of a drive as the kernel sees it.
type Partition struct {
	Name    string `json:"name"` // "sdb1"
	Start   int64  `json:"start"`
	Size    int64  `json:"size"`
	Label   string `json:"label"`   // its name in the partition table
	Content string `json:"content"` // in words
}

// sector is the unit of sizes in sysfs, whatever a drive's own is.
const sector = 512

// Drives lists the drives of a computer, by name.
func (h Host) Drives() ([]Drive, error) {
	names, err := h.wholeNames()
	if err != nil {
		return nil, err
	}
	var list []Drive
	for _, name := range names {
		if isDrive(name) {
			if d := h.read(name); d.Size > 0 || d.Transport != "loop" {
				list = append(list, d)
			}
		}
	}
	return list, nil
}

func (h Host) wholeNames() ([]string, error) {
	entries, err := os.ReadDir(h.path("sys/block"))
	if err != nil {
		return nil, fmt.Errorf("listing the drives: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.SortFunc(names, byNumber)
	return names, nil
}

// byNumber sorts sdb before sdaa, and loop2 before loop10.
func byNumber(a, b string) int {
	if n := len(a) - len(b); n != 0 && strings.TrimRightFunc(a, unicode.IsDigit) == strings.TrimRightFunc(b, unicode.IsDigit) {
		return n
	}
	return strings.Compare(a, b)
}

// isDrive says whether a block device is something to write a medium to, and
// not memory, a CD drive, or made of other devices.
func isDrive(name string) bool {
	for _, prefix := range []string{"ram", "zram", "sr", "fd", "dm-", "md", "bcache", "drbd", "pmem", "mtd"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" && ('0' <= rest[0] && rest[0] <= '9') {
			return false
		}
	}
	return !strings.Contains(name, "boot") && !strings.HasSuffix(name, "rpmb") // mmcblk0boot0: an eMMC's own
}

// read collects the facts on one drive.
func (h Host) read(name string) Drive {
	dir := h.path("sys/block", name)
	place, err := filepath.EvalSymlinks(dir)
	if err != nil {
		place = dir
	}
	d := Drive{
		Name: name, Path: "/dev/" + strings.ReplaceAll(name, "!", "/"),
		Transport: transport(name, place), Size: number(dir, "size") * sector,
		Sector: max(number(dir, "queue/logical_block_size"), sector), ReadOnly: fact(dir, "ro") == "1", Partitions: []Partition{},
	}
	d.Model = printable(strings.Join(strings.Fields(fact(dir, "device/vendor")+" "+fact(dir, "device/model")), " "))
	if strings.HasPrefix(d.Model, "0x") || d.Model == "" { // virtio has numbers for vendors, cards a name
		d.Model = printable(fact(dir, "device/name"))
	}
	d.Removable = fact(dir, "removable") == "1" || d.Transport == "usb" || fact(dir, "device/type") == "SD"
	d.Serial = printable(serial(dir, place))
	if d.Transport == "loop" {
		d.Model, d.Serial = "loop device", printable(fact(dir, "loop/backing_file"))
	}
	h.readContent(&d, dir)
	return d
}

func (h Host) readContent(d *Drive, dir string) {
	f, err := os.Open(h.path(d.Path))
	if err == nil {
		defer f.Close()
	}
	var labels map[int64]string
	if err == nil && d.Size > 0 {
		d.Content, labels = describe(f, d.Size)
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		part := filepath.Join(dir, e.Name())
		if fact(part, "partition") == "" {
			continue
		}
		p := Partition{Name: e.Name(), Start: number(part, "start") * sector, Size: number(part, "size") * sector}
		p.Label = labels[p.Start]
		if err == nil {
			p.Content = describeVolume(f, p.Start, p.Size)
		}
		d.Partitions = append(d.Partitions, p)
	}
	slices.SortFunc(d.Partitions, func(a, b Partition) int { return byNumber(a.Name, b.Name) })
}

// transport says how a drive is attached, from its place among the devices.
func transport(name, place string) string {
	switch {
	case strings.HasPrefix(name, "loop"):
		return "loop"
	case strings.HasPrefix(name, "mmcblk"):
		return "sd"
	case strings.Contains(place, "/usb"):
		return "usb"
	case strings.HasPrefix(name, "nvme"):
		return "nvme"
	case strings.Contains(place, "/virtio"):
		return "virtio"
	case strings.Contains(place, "/ata"):
		return "ata"
	case strings.HasPrefix(name, "sd"):
		return "scsi"
	}
	return ""
}

// serial finds a drive's serial number: its own file, or page 0x80 of a SCSI
// drive, or, for a USB stick, that of the USB device above it.
func serial(dir, place string) string {
	if strings.Contains(place, "/usb") {
		for up := place; len(up) > 1 && up != "."; up = filepath.Dir(up) {
			if fact(up, "idVendor") != "" {
				return fact(up, "serial")
			}
		}
	}
	for _, name := range []string{"serial", "device/serial"} {
		if s := fact(dir, name); s != "" {
			return s
		}
	}
	if page, err := os.ReadFile(filepath.Join(dir, "device/vpd_pg80")); err == nil && len(page) > 4 {
		return strings.TrimSpace(strings.TrimRight(string(page[4:]), "\x00"))
	}
	return ""
}

// Find returns the drive that a person names by path, link (/dev/disk/by-id/…)
// or name.
func (h Host) Find(name string) (Drive, error) {
	kernel, err := h.kernelName(name)
	if err != nil {
		return Drive{}, err
	}
	if _, err := os.Stat(h.path("sys/block", kernel)); err == nil {
		if !isDrive(kernel) {
			return Drive{}, refuse(fmt.Sprintf("%s is no drive of its own but memory, a CD drive, or made of other drives", name), "name the drive itself; ashlar media drives lists them")
		}
		return h.read(kernel), nil
	}
	if wholes, _ := filepath.Glob(h.path("sys/block/*", kernel)); len(wholes) == 1 {
		whole := filepath.Base(filepath.Dir(wholes[0]))
		return Drive{}, refuse(fmt.Sprintf("%s is a partition, and a medium takes a whole drive", name), "name the drive: /dev/"+whole)
	}
	return Drive{}, refuse(fmt.Sprintf("there is no drive %q", name), "ashlar media drives lists those that there are")
}

// kernelName follows links, and makes "sdb" of "/dev/sdb".
func (h Host) kernelName(name string) (string, error) {
	if !strings.Contains(name, "/") {
		return name, nil
	}
	path, err := filepath.EvalSymlinks(h.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", refuse(fmt.Sprintf("there is no drive %q", name), "ashlar media drives lists those that there are")
	}
	if err != nil {
		return "", fmt.Errorf("looking for the drive %q: %w", name, err)
	}
	dev, err := filepath.EvalSymlinks(h.path("dev"))
	if err != nil {
		return "", fmt.Errorf("looking for the drive %q: %w", name, err)
	}
	rel, err := filepath.Rel(dev, path)
	if err != nil {
		return "", fmt.Errorf("looking for the drive %q: %w", name, err)
	}
	return strings.ReplaceAll(rel, "/", "!"), nil
}

func (h Host) path(elem ...string) string {
	return filepath.Join(append([]string{h.Root}, elem...)...)
}

// fact reads a small file of sysfs; "" where it is not there.
func fact(elem ...string) string {
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil || len(b) > 4096 {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func number(elem ...string) int64 {
	n, err := strconv.ParseInt(fact(elem...), 10, 64)
	if err != nil || n < 0 || n > 1<<53 {
		return 0
	}
	return n
}

// printable makes what a device says of itself fit for a terminal.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0 {
		return s
	}
	return "0x" + hex.EncodeToString([]byte(s))
}
