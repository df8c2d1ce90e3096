package trust

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTidy: what is current stays, and what others put there; nothing is touched
// while somebody keeps something.
func TestTidy(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"generation-1", "generation-2", "notes"} {
		if err := errors.Join(os.Mkdir(filepath.Join(dir, name), 0o755), os.WriteFile(filepath.Join(dir, name, "x"), nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{currentName: "generation-2", currentName + ".new": "generation-1"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	names := func() (list []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			list = append(list, e.Name())
		}
		return list
	}
	lock, err := os.Create(filepath.Join(dir, lockName))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := Tidy(dir); err != nil || len(names()) != 6 {
		t.Errorf("while another run holds the lock: %v, %q", err, names())
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Tidy(dir); err != nil {
			t.Fatal(err)
		}
		if got := names(); !slices.Equal(got, []string{currentName, "generation-2", lockName, "notes"}) {
			t.Errorf("there are %q", got)
		}
	}
}
