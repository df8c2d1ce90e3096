package sysroot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/program"
)

const (
	espUUID  = "aaaaaaaa-1111-2222-3333-444444444444"
	rootUUID = "bbbbbbbb-1111-2222-3333-444444444444"
)

// diskImage has a partition table that sfdisk wrote.
func diskImage(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 8<<20); err != nil {
		t.Fatal(err)
	}
	script := "label: gpt\nsize=2048, type=" + gpt.TypeESP.String() + ", uuid=" + espUUID + ", name=esp\n" +
		"size=2048, type=" + gpt.TypeRoot.String() + ", uuid=" + rootUUID + ", name=" + rootLabel + "\n"
	if _, err := program.Run(context.Background(), program.Command{
		Args: []string{"sfdisk", "-q", path}, Stdin: strings.NewReader(script),
	}); err != nil {
		t.Fatal(err)
	}
	return path
}

func readImage(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ashlarDisk(name, esp string) disk {
	return disk{name, []gpt.Partition{
		{Number: 1, Type: gpt.TypeESP, ID: gpt.MustParse(esp), Name: "esp"},
		{Number: 2, Type: gpt.TypeRoot, ID: gpt.MustParse(rootUUID), Name: rootLabel},
	}}
}

// The root is looked for on the disk that the boot came from and on no other.
func TestChooseRoot(t *testing.T) {
	const other = "cccccccc-1111-2222-3333-444444444444"
	noRoot := ashlarDisk("vdc", espUUID)
	noRoot.partitions[1].Name = "debian"
	twoRoots := ashlarDisk("vdd", espUUID)
	twoRoots.partitions = append(twoRoots.partitions, gpt.Partition{Number: 3, Type: gpt.TypeRoot, ID: gpt.MustParse(other), Name: rootLabel})
	for _, c := range []struct {
		name  string
		disks []disk
		esp   string
		root  string // or
		err   string
	}{
		{"the only disk", []disk{ashlarDisk("vda", espUUID)}, espUUID, "/dev/vda2", ""},
		{"second disk", []disk{ashlarDisk("vda", other), ashlarDisk("nvme0n1", espUUID)}, espUUID, "/dev/nvme0n1p2", ""},
		{"only another Ashlar", []disk{ashlarDisk("vda", other)}, espUUID, "", errNotYet.Error()},
		{"no disk", nil, espUUID, "", errNotYet.Error()},
		{"a copy is plugged in", []disk{ashlarDisk("vda", espUUID), ashlarDisk("sda", espUUID)}, espUUID, "", "they are copies"},
		{"no root on it", []disk{noRoot}, espUUID, "", "has no root partition"},
		{"two roots on it", []disk{twoRoots}, espUUID, "", "two root partitions"},
		{"unknown loader, one disk", []disk{noRoot, ashlarDisk("sda", espUUID)}, "", "/dev/sda2", ""},
		{"unknown loader, two disks", []disk{ashlarDisk("vda", other), ashlarDisk("sda", espUUID)}, "", "", "could both be it"},
	} {
		got, err := chooseRoot(c.disks, c.esp)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error is %v, want one with %q", c.name, err, c.err)
			}
			continue
		}
		if err != nil || got.root != c.root || got.espPartUUID != espUUID {
			t.Errorf("%s: found %+v (%v), want %q", c.name, got, err, c.root)
		}
	}
	if _, err := chooseRoot(nil, ""); !errors.Is(err, errNotYet) {
		t.Errorf("no disk at all: %v", err)
	}
}

// Disks come from sysfs; what has no size or no table is left out.
func TestReadDisks(t *testing.T) {
	sys, dev := t.TempDir(), t.TempDir()
	for name, size := range map[string]string{"vda": "16384\n", "loop0": "0\n", "sr0": "100\n", "ram0": "100\n"} {
		write(t, filepath.Join(sys, "block", name, "size"), size)
		write(t, filepath.Join(sys, "block", name, "queue/logical_block_size"), "512\n")
	}
	write(t, filepath.Join(dev, "vda"), string(readImage(t, diskImage(t))))
	write(t, filepath.Join(dev, "sr0"), "no table here")
	disks := readDisks(sys, dev)
	if len(disks) != 1 || disks[0].name != "vda" || len(disks[0].partitions) != 2 {
		t.Errorf("found %+v", disks)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
