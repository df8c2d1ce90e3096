package cli

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/machine/install"
	"github.com/ashlar-os/ashlar/internal/machine/sysroot"
	"github.com/ashlar-os/ashlar/internal/media/drive"
)

// installDisks lists the disks of this computer for an installer, with the reasons
// why some are not taken; the medium first of all.
func installDisks(record *sysroot.Record) ([]install.Disk, error) {
	host := drivesHost()
	drives, err := host.Drives()
	if err != nil {
		return nil, err
	}
	disks := []install.Disk{}
	for _, d := range drives {
		if d.Transport == "loop" || d.Size == 0 {
			continue
		}
		disk := install.Disk{
			Name: d.Name, Path: d.Path, Model: d.Model, Serial: d.Serial, Transport: d.Transport,
			Size: d.Size, Sector: d.Sector, Content: diskContent(d),
		}
		ids := stableIDs(host.Root, d.Path)
		if disk.ID = d.Path; len(ids) > 0 {
			disk.ID, disk.AlsoIDs = ids[0], ids[1:]
		}
		_, _, disk.Ashlar = install.FindAshlar(filepath.Join(host.Root, d.Path), d.Sector)
		var refused *drive.Refusal
		switch err := host.Judge(d, drive.Wish{Fixed: true}); {
		case record.Medium.Device == d.Path:
			disk.Refused = "it is the medium that this computer was started from"
		case errors.As(err, &refused):
			disk.Refused = refused.Error()
		case err != nil:
			return nil, err
		}
		disks = append(disks, disk)
	}
	return disks, nil
}

// diskContent says what is on a disk, with what is in its partitions.
func diskContent(d drive.Drive) string {
	switch d.Content {
	case drive.Nothing:
		return ""
	case "":
		return "something that cannot be read"
	}
	var parts []string
	for _, p := range d.Partitions {
		switch {
		case p.Content != "" && p.Label != "":
			parts = append(parts, p.Label+": "+p.Content)
		case p.Content+p.Label != "":
			parts = append(parts, p.Label+p.Content)
		}
	}
	if len(parts) == 0 {
		return d.Content
	}
	return d.Content + " (" + strings.Join(parts, ", ") + ")"
}

// stableIDs are the names below /dev/disk that a drive keeps, the best one first:
// those that say model and serial number, then numbers that nobody can read on the drive,
// then where it is plugged in.
func stableIDs(root, path string) []string {
	device, err := filepath.EvalSymlinks(filepath.Join(root, path))
	if err != nil {
		return nil
	}
	var ids []string
	for _, dir := range []string{"by-id", "by-path"} {
		dir = filepath.Join(root, "dev/disk", dir)
		entries, _ := os.ReadDir(dir) // sorted; none where udev does not run
		for _, e := range entries {
			if target, err := filepath.EvalSymlinks(filepath.Join(dir, e.Name())); err == nil && target == device {
				ids = append(ids, e.Name())
			}
		}
	}
	rank := func(id string) int {
		for i, prefix := range []string{"wwn-", "nvme-eui.", "nvme-nvme.", "scsi-3", "pci-", "platform-"} {
			if strings.HasPrefix(id, prefix) {
				return i + 1
			}
		}
		return 0
	}
	slices.SortStableFunc(ids, func(a, b string) int { return rank(a) - rank(b) })
	return ids
}
