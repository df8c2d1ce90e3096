package drive

import (
	"path/filepath"
	"testing"
)

// TestRefusals has one case for each reason not to write a drive.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		drive  string
		change func(c computer)
		wish   Wish
		want   string // "" for: it may be written
	}{
		"a stick":             {drive: "sdb"},
		"a card":              {drive: "mmcblk0"},
		"backs / through LVM": {drive: "nvme0n1", want: "/dev/nvme0n1 holds /: this computer runs from it"},
		"backs /, by its serial number too": {drive: "nvme0n1", wish: Wish{Serials: []string{"S64KNX0R"}},
			want: "this computer runs from it"},
		"backs /usr": {drive: "sdb", change: func(c computer) { c.Mount("8:17", "/usr", "ext4", "/dev/sdb1") },
			want: "/dev/sdb holds /usr: this computer runs from it"},
		"backs /var through md and dm-crypt": {drive: "sdb", change: func(c computer) {
			c.Drive("md0", "virtual", "9:0", "1000", map[string]string{"slaves/sdb1": ""})
			c.Drive("dm-1", "virtual", "254:1", "1000", map[string]string{"slaves/md0": "", "dm/name": "var_crypt"})
			c.Mount("254:1", "/var", "xfs", "/dev/mapper/var_crypt")
		}, want: "/dev/sdb holds /var: this computer runs from it"},
		"backs / as one of btrfs's drives": {drive: "sdb", change: func(c computer) {
			c.Mount("0:40", "/", "btrfs", "/dev/sdc")
			c.File("sys/fs/btrfs/1234/devices/sdb1", "")
			c.File("sys/fs/btrfs/1234/devices/sdc", "")
		}, want: "/dev/sdb holds /: this computer runs from it"},
		"backs the root of an Ashlar machine": {drive: "sdb", change: func(c computer) {
			c.Mount("8:17", "/sysroot", "ext4", "/dev/sdb1")
		}, want: "/dev/sdb holds /sysroot: this computer runs from it"},
		"is what a live system runs from": {drive: "sdb", change: func(c computer) {
			c.Drive("loop2", "virtual", "7:2", "1000", map[string]string{"loop/backing_file": "/dev/sdb"})
			c.Drive("dm-2", "virtual", "254:2", "1000", map[string]string{"slaves/loop2": ""})
			c.Mount("254:2", "/sysroot", "erofs", "/dev/dm-2")
		}, want: "/dev/sdb holds /sysroot: this computer runs from it"},
		"swap partition": {drive: "sdb", change: func(c computer) {
			c.File("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/sdb1  partition\t1000\t0\t-2\n")
		}, want: "/dev/sdb holds the swap /dev/sdb1"},
		"swap file": {drive: "sdb", change: func(c computer) {
			c.Mount("8:17", `/mnt/a\040b`, "ext4", "/dev/sdb1")
			c.File("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/mnt/a\\040b/swap file\t1000\t0\t-2\n")
		}, want: `/dev/sdb holds the swap "/mnt/a b/swap`},
		"the image is on it": {drive: "sdb", change: func(c computer) { c.Mount("8:17", "/media/me", "vfat", "/dev/sdb1") },
			wish: Wish{Image: "/media/me/acme.iso"}, want: "/dev/sdb holds what is to be written, /media/me/acme.iso"},
		"it is the image": {drive: "sdb", wish: Wish{Image: "/dev/sdb1"}, want: "/dev/sdb holds what is to be written, /dev/sdb1"},
		"mounted": {drive: "sdb", change: func(c computer) { c.Mount("8:17", "/media/me", "vfat", "/dev/sdb1") },
			want: "/dev/sdb is in use: it is mounted at /media/me"},
		"mounted through a loop device": {drive: "sdb", change: func(c computer) {
			c.Mount("8:17", "/home/me", "ext4", "/dev/sdb1")
			c.Mount("7:0", "/mnt", "ext4", "/dev/loop0")
		}, want: "/dev/sdb is in use: it is mounted at /home/me"},
		"held by LVM": {drive: "sdb", change: func(c computer) {
			c.Drive("dm-3", "virtual", "254:3", "1000", map[string]string{"slaves/sdb1": "", "dm/name": "vg2-data"})
			c.File("sys/block/sdb/sdb1/holders/dm-3", "")
		}, want: "/dev/sdb is in use by /dev/mapper/vg2-data"},
		"held by RAID": {drive: "sdb", change: func(c computer) {
			c.Drive("md1", "virtual", "9:1", "1000", map[string]string{"slaves/sdb": ""})
			c.File("sys/block/sdb/holders/md1", "")
		}, want: "/dev/sdb is in use by /dev/md1"},
		"write-protected": {drive: "sdb", change: func(c computer) { c.File("sys/block/sdb/ro", "1\n") },
			want: "/dev/sdb cannot be written: it is write-protected"},
		"too small": {drive: "sdb", wish: Wish{Size: 60063744*512 + 1}, want: "/dev/sdb is too small"},
		"no card in the reader": {drive: "sdb", change: func(c computer) { c.File("sys/block/sdb/size", "0\n") },
			want: "/dev/sdb is empty"},
		"not removable":                    {drive: "loop0", want: "/dev/loop0 is not removable"},
		"not removable, by another serial": {drive: "loop0", wish: Wish{Serials: []string{"4C530001"}}, want: "is not removable"},
		"not removable, by its serial":     {drive: "loop0", wish: Wish{Serials: []string{"/home/me/stick.img"}}},
		"too large":                        {drive: "sdc", want: "/dev/sdc has 4001 GB"},
		"too large, by its serial":         {drive: "sdc", wish: Wish{Serials: []string{"x", "WX11D123"}}},
		"no serial to name it by": {drive: "sdd", change: func(c computer) { c.Drive("sdd", "pci0/ata1/host0", "8:48", "1000", nil) },
			wish: Wish{Serials: []string{""}}, want: "/dev/sdd is not removable"},
	} {
		t.Run(name, func(t *testing.T) {
			computer := laptop(t)
			if c.change != nil {
				c.change(computer)
			}
			d, err := computer.host().Find(c.drive)
			if err != nil {
				t.Fatal(err)
			}
			err = computer.host().Judge(d, c.wish)
			if c.want == "" {
				if err != nil {
					t.Fatalf("it is refused: %v", err)
				}
				return
			}
			checkRefusal(t, name, err, c.want)
		})
	}
}

// A link to the image, and a relative path, are the image.
func TestImageOnTheDriveBehindALink(t *testing.T) {
	c := laptop(t)
	dir := t.TempDir()
	c.Mount("8:17", dir, "vfat", "/dev/sdb1")
	t.Chdir(dir)
	d, err := c.host().Find("sdb")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"acme.iso", filepath.Join(dir, "../", filepath.Base(dir), "acme.iso")} {
		checkRefusal(t, path, c.host().Judge(d, Wish{Image: path}), "holds what is to be written")
	}
}
