package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/media/drive"
	"github.com/ashlar-os/ashlar/internal/media/drive/drivetest"
)

// newLaptop is a made-up computer on which the verbs of media run.
func newLaptop(t *testing.T) *drivetest.Computer {
	c := drivetest.Laptop(t)
	t.Setenv("ASHLAR_ROOT", c.Root)
	return c
}

// stick gives /dev/sdb of a made-up computer as many bytes as sysfs says of it.
func stick(t *testing.T, c *drivetest.Computer, size int64) string {
	t.Helper()
	path := filepath.Join(c.Root, "dev/sdb")
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMediaDrives(t *testing.T) {
	c := newLaptop(t)
	c.Mount("8:17", "/media/me/STICK", "vfat", "/dev/sdb1")
	out, errs, code := ashlar(t, "media", "drives")
	want := `/dev/mmcblk0  SC32G, sd, 31.91 GB, serial number 0x12345678
  holds    nothing that is known
/dev/sdb  SanDisk Ultra, usb, 30.75 GB, serial number 4C530001
  holds    one partition: something unknown
  refused  /dev/sdb is in use: it is mounted at /media/me/STICK (umount /media/me/STICK)
/dev/sdc  WD Elements, usb, 4000.79 GB, serial number WX11D123
  holds    nothing that is known
  refused  /dev/sdc has 4001 GB: it may be a disk with somebody's data (if it is the right one name its serial number too: --serial "WX11D123")
2 others with --all
`
	if code != exitOK || out != want {
		t.Errorf("%d\n%s\nwant\n%s%s", code, out, want, errs)
	}
	out, _, code = ashlar(t, "media", "drives", "--all", "--json")
	var answer drivesAnswer
	if err := json.Unmarshal([]byte(out), &answer); err != nil || code != exitOK || len(answer.Drives) != 5 {
		t.Fatalf("%d %v\n%s", code, err, out)
	}
	for _, d := range answer.Drives {
		if d.Name == "nvme0n1" && (d.Refused != "/dev/nvme0n1 holds /: this computer runs from it" || d.Cure == "") {
			t.Errorf("it says %+v", d)
		}
	}
}

func TestMediaRestore(t *testing.T) {
	c := newLaptop(t)
	c.File("sys/block/sdb/size", "131072\n")
	stick(t, c, 64<<20)
	out, errs, code := ashlar(t, "media", "restore", "/dev/sdb", "--yes", "--label", "KEYS")
	if code != exitOK || !strings.Contains(out, `/dev/sdb is an ordinary empty drive of 67.1 MB (fat32, "KEYS")`) {
		t.Fatalf("%d\n%s%s", code, out, errs)
	}
	d, err := drivesHost().Find("sdb")
	if err != nil || !strings.Contains(driveContent(d), `FAT16 "KEYS"`) && d.Content != "a partition table with one partition" {
		t.Errorf("it holds %q (%v)", driveContent(d), err)
	}
	for _, c := range []struct {
		args  []string
		code  int
		words string
	}{
		{[]string{"/dev/sdb"}, exitError, "--yes says that it is the right one"},
		{[]string{"/dev/nvme0n1", "--yes"}, exitError, "this computer runs from it"},
		{[]string{"/dev/sdx", "--yes"}, exitError, `there is no drive "/dev/sdx"`},
		{[]string{"sdb", "--fs", "ntfs"}, exitUsage, `--fs is "ntfs"`},
		{[]string{"sdb", "--label", "small"}, exitUsage, "want capital letters"},
		{[]string{"sdb", "--label", ""}, exitUsage, "want 1 to 11 characters"},
	} {
		_, errs, code := ashlar(t, append([]string{"media", "restore"}, c.args...)...)
		if code != c.code || !strings.Contains(errs, c.words) {
			t.Errorf("%q: %d\n%s", c.args, code, errs)
		}
	}
}

// fakeTerminal answers what it is told to.
type fakeTerminal struct {
	typed io.Reader
	shown bytes.Buffer
}

func (f *fakeTerminal) Read(b []byte) (int, error)  { return f.typed.Read(b) }
func (f *fakeTerminal) Write(b []byte) (int, error) { return f.shown.Write(b) }

func TestAskForName(t *testing.T) {
	d := drive.Drive{Name: "sdb", Path: "/dev/sdb", Model: "SanDisk Ultra", Serial: "4C53", Transport: "usb", Size: 30e9, Content: `FAT32 "HOLIDAY"`}
	for typed, want := range map[string]error{
		"sdb\n": nil, "/dev/sdb\n": nil, "y\n": errNotNamed, "yes\n": errNotNamed, "sdc\n": errNotNamed, "\n": errNotNamed, "": errNotNamed,
	} {
		tty := &fakeTerminal{typed: strings.NewReader(typed)}
		if err := askForName(tty, d); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", typed, err, want)
		}
		for _, shown := range []string{"SanDisk Ultra", "4C53", "30.00 GB", `FAT32 "HOLIDAY"`, "Everything on it will be lost", "sdb"} {
			if !strings.Contains(tty.shown.String(), shown) {
				t.Errorf("it does not show %q:\n%s", shown, tty.shown.String())
			}
		}
	}
}
