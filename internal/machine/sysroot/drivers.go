package sysroot

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/modules"
)

// buses are where devices announce what drives them. Looking only here is much
// quicker than walking /sys/devices.
var buses = []string{"virtio", "pci", "scsi", "usb", "vmbus", "xen", "mmc", "acpi", "platform"}

// quick are drivers that have found their disk when they have been loaded: it
// pays to look for the root before anything slower is loaded, and a boot from
// a virtio disk then does without the SATA drivers.
var quick = []string{"virtio_pci", "virtio_blk"}

// drivers tells which modules the devices of this machine ask for.
type drivers struct {
	list  *modules.List
	sys   string
	seen  map[string]bool // devices, by path
	asked map[string]bool // modules
	queue []string        // asked for and not given out yet
}

func newDrivers(list *modules.List, sys string) *drivers {
	return &drivers{list: list, sys: sys, seen: map[string]bool{}, asked: map[string]bool{}}
}

// scan takes note of devices that have appeared since the last scan.
func (d *drivers) scan() {
	for _, bus := range buses {
		dir := filepath.Join(d.sys, "bus", bus, "devices")
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // this machine has no such bus
		}
		for _, e := range entries {
			device := filepath.Join(dir, e.Name())
			if d.seen[device] {
				continue
			}
			d.seen[device] = true
			for _, name := range d.match(filepath.Join(device, "modalias")) {
				if !d.asked[name] {
					d.asked[name] = true
					d.queue = append(d.queue, name)
				}
			}
		}
	}
	slices.SortStableFunc(d.queue, func(a, b string) int { return rank(a) - rank(b) })
}

// rank is small for what is to be loaded first.
func rank(name string) int {
	if slices.Contains(quick, name) {
		return 0
	}
	return 1
}

// next gives out a module to load, or "" when there is none.
func (d *drivers) next() string {
	if len(d.queue) == 0 {
		return ""
	}
	name := d.queue[0]
	d.queue = d.queue[1:]
	return name
}

// match returns the modules for the modalias in that file.
func (d *drivers) match(path string) []string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return d.list.Match(strings.TrimSpace(string(b)))
}

// everyBoot lists what to load in any case, in that order: what tells where the
// boot came from, faster digests for this processor, the image's file systems.
func (d *drivers) everyBoot() []string {
	names := []string{"efivarfs"}
	names = append(names, d.match(filepath.Join(d.sys, "devices/system/cpu/modalias"))...)
	for _, m := range d.list.Modules {
		if m.When == modules.Always {
			names = append(names, m.Name)
		}
	}
	return names
}
