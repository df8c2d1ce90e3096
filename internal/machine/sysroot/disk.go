package sysroot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
)

// rootLabel is the partition name of Ashlar's root.
const rootLabel = gpt.NameRoot

// maxDisks bounds how many disks are looked at.
const maxDisks = 4096

// disk is a whole disk with a partition table.
type disk struct {
	name       string // such as "vda"
	partitions []gpt.Partition
}

// rootDisk is where a boot's two partitions are.
type rootDisk struct {
	disk         string
	root         string // device path, such as "/dev/vda2"
	rootPartUUID string
	esp          string // device path
	espPartUUID  string
}

// errNotYet says that the disk has not appeared; it may still.
var errNotYet = errors.New("no such disk yet")

// readDisks reads the partition tables of all disks that the kernel has found
// so far. Disks that cannot be read or have no GPT are left out.
func readDisks(sys, dev string) []disk {
	entries, err := os.ReadDir(filepath.Join(sys, "block"))
	if err != nil || len(entries) > maxDisks {
		return nil
	}
	var disks []disk
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, "ram") || readNumber(filepath.Join(sys, "block", name, "size")) <= 0 {
			continue
		}
		f, err := os.Open(filepath.Join(dev, name))
		if err != nil {
			continue
		}
		table, err := gpt.Read(f, readNumber(filepath.Join(sys, "block", name, "queue/logical_block_size")))
		f.Close()
		if err == nil {
			disks = append(disks, disk{name, table.Partitions})
		}
	}
	sort.Slice(disks, func(i, j int) bool { return disks[i].name < disks[j].name })
	return disks
}

// readNumber reads a file of sysfs that holds one number, or gives 0.
func readNumber(path string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// chooseRoot finds the root partition on the disk whose ESP has the given
// partition UUID, and on no other: a second disk with an Ashlar on it, or a
// copy of this one, must never be taken for it. Without a UUID (a loader that
// does not tell) the choice has to be the only possible one.
func chooseRoot(disks []disk, esp string) (rootDisk, error) {
	var found []rootDisk
	for _, d := range disks {
		r, err := rootOn(d, esp)
		if errors.Is(err, errNotYet) {
			continue
		}
		if err != nil {
			return rootDisk{}, err
		}
		found = append(found, r)
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		return rootDisk{}, errNotYet
	case esp != "":
		return rootDisk{}, fmt.Errorf("the disks %q and %q both have the ESP %s this boot came from; unplug one, they are copies", found[0].disk, found[1].disk, esp)
	}
	return rootDisk{}, fmt.Errorf("the loader does not say which disk it came from, and %q and %q could both be it", found[0].disk, found[1].disk)
}

// rootOn looks at one disk. errNotYet: it is not the one.
func rootOn(d disk, esp string) (rootDisk, error) {
	r := rootDisk{disk: d.name}
	for _, p := range d.partitions {
		if p.Type == gpt.TypeESP && (esp == "" || p.ID.String() == esp) && r.espPartUUID == "" {
			r.esp, r.espPartUUID = "/dev/"+partitionName(d.name, p.Number), p.ID.String()
		}
	}
	if r.espPartUUID == "" {
		return r, errNotYet
	}
	for _, p := range d.partitions {
		if p.Type != gpt.TypeRoot || p.Name != rootLabel {
			continue
		}
		if r.root != "" {
			return r, fmt.Errorf("disk %q has two root partitions with the label %q", d.name, rootLabel)
		}
		r.root, r.rootPartUUID = "/dev/"+partitionName(d.name, p.Number), p.ID.String()
	}
	switch {
	case r.root != "":
		return r, nil
	case esp == "":
		return r, errNotYet
	}
	return r, fmt.Errorf("disk %q, which this boot came from, has no root partition (type %s, label %q)", d.name, gpt.TypeRoot, rootLabel)
}

// partitionName is how the kernel names partition n: a "p" follows a digit
// (block/partitions/core.c).
func partitionName(disk string, n int) string {
	if last := disk[len(disk)-1]; last >= '0' && last <= '9' {
		return disk + "p" + strconv.Itoa(n)
	}
	return disk + strconv.Itoa(n)
}
