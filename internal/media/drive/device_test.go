package drive

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/media/drive/drivetest"
)

// TestTrueDrive goes through the life of a drive that the kernel knows.
func TestTrueDrive(t *testing.T) {
	path, file := drivetest.Loop(t, 64<<20+512)
	d, err := This.Find(path)
	if err != nil {
		t.Fatal(err)
	}
	if d.Size != 64<<20+512 || d.Serial != file || d.Transport != "loop" || d.Sector != 512 {
		t.Errorf("it is %+v", d)
	}
	checkRefusal(t, "a loop device", This.Judge(d, Wish{}), "is not removable")
	named := Wish{Serials: []string{file}}
	if err := This.Judge(d, named); err != nil {
		t.Errorf("named by its file: %v", err)
	}

	drivetest.Run(t, "mke2fs", "-q", "-t", "ext4", "-L", "holiday", path)
	if d, _ = This.Find(path); d.Content != `ext4 "holiday"` {
		t.Errorf("it holds %q", d.Content)
	}
	point := t.TempDir()
	drivetest.Run(t, "mount", path, point)
	mounted := true
	t.Cleanup(func() {
		if mounted {
			drivetest.Run(t, "umount", point)
		}
	})
	checkRefusal(t, "mounted", This.Judge(d, named), "it is mounted at "+point)
	if _, err := This.Open(d); !errors.As(err, new(*Refusal)) { // the second lock
		t.Errorf("the kernel lets a mounted drive be opened: %v", err)
	}
	inside := filepath.Join(point, "image.iso")
	if err := os.WriteFile(inside, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	checkRefusal(t, "the image is on it", This.Judge(d, Wish{Image: inside}), "holds what is to be written, "+inside)
	drivetest.Run(t, "umount", point)
	mounted = false

	dev, err := This.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := This.Open(d); !errors.As(err, new(*Refusal)) {
		t.Errorf("two can open it: %v", err)
	}
	checkDevice(t, dev)
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	checkHole(t, file, 8<<20)
}

// TestFileAsDrive: the same calls on a file.
func TestFileAsDrive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stick.img")
	dev, err := CreateFile(path, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	checkDevice(t, dev)
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	checkHole(t, path, 8<<20)
	if st, err := os.Stat(path); err != nil || st.Size() != 64<<20 {
		t.Errorf("the file is %v: %v", st, err)
	}
}

// checkDevice writes 16 MiB, discards the second half, and reads the first.
func checkDevice(t *testing.T, dev Device) {
	t.Helper()
	b, got := Buffer(8<<20), Buffer(8<<20)
	copy(b, bytes.Repeat([]byte("stone"), len(b)/5))
	for _, off := range []int64{0, 8 << 20} {
		if _, err := dev.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	for name, err := range map[string]error{
		"discard": dev.Discard(8<<20, 8<<20), "zero": dev.Zero(1<<20, 1<<20), "flush": dev.Flush(), "forget": dev.Forget(),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	clear(b[1<<20 : 2<<20])
	if _, err := dev.ReadAt(got, 0); err != nil || !bytes.Equal(b, got) {
		t.Errorf("it does not read what was written (%v)", err)
	}
}

// checkHole wants nothing behind data in a file.
func checkHole(t *testing.T, path string, off int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if at, err := f.Seek(off, unix.SEEK_DATA); err == nil && at < 16<<20 {
		t.Errorf("what was discarded still takes room, at %d", at)
	}
}

func TestOpenToRead(t *testing.T) {
	if _, err := OpenToRead(t.TempDir()); err == nil {
		t.Error("a directory can be read as a drive")
	}
	if _, err := OpenToRead("/dev/null"); err == nil {
		t.Error("/dev/null can be read as a drive")
	}
}

// TestPowerOff: the drive's system is told, and then the USB device's.
func TestPowerOff(t *testing.T) {
	c := laptop(t)
	c.File("sys/block/sdb/device/delete", "")
	c.File("sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/remove", "")
	d, err := c.host().Find("sdb")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.host().PowerOff(d); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"sys/block/sdb/device/delete", "sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/remove"} {
		if got := fact(c.Root, path); got != "1" {
			t.Errorf("%s has %q", path, got)
		}
	}
}
