package install

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLocked: udev looks at nothing that is locked, so the disk is, from before it is
// wiped until the end, also while it is written to.
func TestLocked(t *testing.T) {
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, make([]byte, 4*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--show", "--find", "--partscan", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	loop := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if err := exec.Command("losetup", "--detach", loop).Run(); err != nil {
			t.Error(err)
		}
	})
	udev, err := os.Open(loop)
	if err != nil {
		t.Fatal(err)
	}
	defer udev.Close()
	locked := func() bool {
		err := unix.Flock(int(udev.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			err = unix.Flock(int(udev.Fd()), unix.LOCK_UN)
		}
		return errors.Is(err, unix.EWOULDBLOCK)
	}

	d, err := openDevice(&Disk{Path: loop, Sector: 512})
	if err != nil {
		t.Fatal(err)
	}
	for _, do := range []func() error{d.wipe, func() error { return nil }} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if !locked() {
			t.Error("udev may look at a disk that is installed to")
		}
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	if locked() {
		t.Error("it is locked after the end")
	}
}
