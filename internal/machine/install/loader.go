package install

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// loaderConf is loader/loader.conf, the same as on a disk image (docs/disk.md):
// without a default, which would win over boot counting, and without the editor.
const loaderConf = "timeout 0\neditor no\n"

// loaderFiles is where the loader goes, in this order: where an entry of the
// firmware finds it, and where firmware without one looks by itself.
var loaderFiles = []string{"EFI/systemd/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"}

// writeLoader makes the disk bootable. Each file is whole and on the disk before it
// has its name, and they come after everything that they start.
func (j *job) writeLoader() error {
	dir := j.espDir()
	if err := writeESP(dir, "loader/loader.conf", []byte(loaderConf)); err != nil {
		return err
	}
	for _, name := range loaderFiles {
		if err := writeESP(dir, name, j.plan.loader); err != nil {
			return err
		}
	}
	return nil
}

// makeDirectories makes all directories of the ESP, durably and before any file. On FAT a
// name leads to a new directory before that is on the disk; until then what was there
// before shows. What the first directories of a new FAT take is empty (see emptyESP).
func makeDirectories(dir string) error {
	for _, name := range []string{"EFI/Linux", "EFI/systemd", "EFI/BOOT", "loader"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	return syncESP(dir)
}

// partial ends the name of a file that is being written. On a machine that boots,
// packages esp and loader remove what a cut has left of these names.
const partial = ".ashlar-partial"

// writeESP writes a file of the ESP by one rename, durably.
func writeESP(dir, name string, b []byte) (err error) {
	path := filepath.Join(dir, name)
	tmp := path + partial
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing %q to the ESP: %w", name, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncESP(filepath.Dir(path))
}

// syncESP makes names durable, in the order of package esp, which says why.
func syncESP(dir string) error {
	if err := syncFS(dir); err != nil {
		return err
	}
	return syncFile(dir)
}

// syncFile flushes a file, or the names in a directory.
func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
