package drive

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/media/drive/drivetest"
)

// laptop is drivetest.Laptop, as a host.
func laptop(t *testing.T) computer { return computer{drivetest.Laptop(t)} }

func newComputer(t *testing.T) computer { return computer{drivetest.NewComputer(t)} }

type computer struct{ *drivetest.Computer }

func (c computer) host() Host { return Host{Root: c.Root} }

func TestDrives(t *testing.T) {
	list, err := laptop(t).host().Drives()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Drive{}
	var names []string
	for _, d := range list {
		got[d.Name] = d
		names = append(names, d.Name)
	}
	if want := []string{"loop0", "mmcblk0", "nvme0n1", "sdb", "sdc"}; !slices.Equal(names, want) {
		t.Errorf("drives are %q, want %q", names, want)
	}
	for name, want := range map[string]Drive{
		"sdb":     {Path: "/dev/sdb", Model: "SanDisk Ultra", Serial: "4C530001", Transport: "usb", Size: 60063744 * 512, Removable: true},
		"nvme0n1": {Path: "/dev/nvme0n1", Model: "SAMSUNG MZVL2512", Serial: "S64KNX0R", Transport: "nvme", Size: 1000215216 * 512},
		"mmcblk0": {Path: "/dev/mmcblk0", Model: "SC32G", Serial: "0x12345678", Transport: "sd", Size: 62333952 * 512, Removable: true},
		"sdc":     {Path: "/dev/sdc", Model: "WD Elements", Serial: "WX11D123", Transport: "usb", Size: 7814037168 * 512, Removable: true},
		"loop0":   {Path: "/dev/loop0", Model: "loop device", Serial: "/home/me/stick.img", Transport: "loop", Size: 204800 * 512},
	} {
		d := got[name]
		if d.Path != want.Path || d.Model != want.Model || d.Serial != want.Serial || d.Transport != want.Transport ||
			d.Size != want.Size || d.Removable != want.Removable {
			t.Errorf("%s is %+v, want %+v", name, d, want)
		}
	}
	if parts := got["sdb"].Partitions; len(parts) != 1 || parts[0].Name != "sdb1" || parts[0].Start != 1<<20 {
		t.Errorf("sdb has the partitions %+v", parts)
	}
}

func TestFind(t *testing.T) {
	c := laptop(t)
	c.File("dev/disk/by-id/.keep", "")
	if err := os.Symlink("../../sdb", filepath.Join(c.Root, "dev/disk/by-id/usb-SanDisk_Ultra")); err != nil {
		t.Fatal(err)
	}
	c.File("dev/sdb1", "")
	for _, name := range []string{"sdb", "/dev/sdb", "/dev/disk/by-id/usb-SanDisk_Ultra"} {
		if d, err := c.host().Find(name); err != nil || d.Name != "sdb" {
			t.Errorf("%q is %q: %v", name, d.Name, err)
		}
	}
	for name, want := range map[string]string{
		"/dev/sdb1": "is a partition, and a medium takes a whole drive",
		"/dev/sdx":  `there is no drive "/dev/sdx"`,
		"sdx":       `there is no drive "sdx"`,
		"/dev/sr0":  "is no drive of its own",
		"dm-0":      "made of other drives",
	} {
		_, err := c.host().Find(name)
		checkRefusal(t, name, err, want)
	}
}

// checkRefusal wants one sentence, and a cure.
func checkRefusal(t *testing.T, what string, err error, want string) {
	t.Helper()
	r, ok := err.(*Refusal)
	if !ok || !strings.Contains(r.Error(), want) {
		t.Errorf("%s: it says %v, want a refusal with %q", what, err, want)
		return
	}
	if r.Hint() == "" || strings.ContainsAny(r.Error(), "\n") || strings.HasSuffix(r.Error(), ".") {
		t.Errorf("%s: %q with the cure %q", what, r.Error(), r.Hint())
	}
}

// gptOf makes the start of a drive with a table of the given names.
func gptOf(t testing.TB, names ...string) []byte {
	table := gpt.Table{Sector: 512, Size: 64 << 20}
	for i, name := range names {
		table.Partitions = append(table.Partitions, gpt.Partition{
			Type: gpt.TypeRoot, ID: gpt.UUID{byte(i + 1)}, Name: name, Start: int64(i+1) << 20, Size: 1 << 20,
		})
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "table"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := table.Write(f); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 128<<10)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestContent(t *testing.T) {
	at := func(off int, magic string) []byte {
		b := make([]byte, 128<<10)
		b[0] = 1
		copy(b[off:], magic)
		return b
	}
	ext := at(1024+56, "\x53\xef")
	copy(ext[1024+120:], "home")
	iso := at(32769, "CD001")
	copy(iso[32808:], "DEBIAN_13                       ")
	fat := at(82, "FAT32   ")
	copy(fat[71:], "STICK      ")
	for _, c := range []struct {
		b    []byte
		want string
	}{
		{make([]byte, 128<<10), "nothing that is known"},
		{at(3, "EXFAT   "), "exFAT"},
		{at(3, "NTFS    "), "NTFS"},
		{fat, `FAT32 "STICK"`},
		{at(0, "LUKS\xba\xbe"), "LUKS encryption"},
		{at(512, "LABELONE"), "LVM"},
		{ext, `ext4 "home"`},
		{iso, `ISO 9660 "DEBIAN_13"`},
		{at(65600, "_BHRfS_M"), "btrfs"},
		{at(4086, "SWAPSPACE2"), "swap"},
		{at(510, "\x55\xaa"), "a partition table of the old kind (MBR)"},
		{at(5000, "x"), "data of an unknown kind"},
		{gptOf(t, "data", "more"), "a partition table with 2 partitions"},
		{gptOf(t, "ashlar-media-esp", "ashlar-payload", "ashlar-papers", "ashlar-answers"), "an Ashlar medium"},
	} {
		c1 := newComputer(t)
		c1.Drive("sdb", drivetest.USB, "8:16", "256", nil)
		c1.File("dev/sdb", string(c.b))
		d, err := c1.host().Find("sdb")
		if err != nil || d.Content != c.want {
			t.Errorf("it holds %q, want %q (%v)", d.Content, c.want, err)
		}
	}
}

// FuzzContent: whatever is on a drive, looking at it does not end the program.
func FuzzContent(f *testing.F) {
	f.Add(gptOf(f, "a", "b"))
	f.Add([]byte("LUKS\xba\xbe"))
	f.Fuzz(func(t *testing.T, b []byte) {
		describe(strings.NewReader(string(b)), int64(len(b)))
	})
}
