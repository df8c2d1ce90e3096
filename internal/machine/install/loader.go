package install

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
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

// writeESP writes a file of the ESP by one rename, durably. The order of syncs is that of
// package esp, which says why.
func writeESP(dir, name string, b []byte) (err error) {
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".new"
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
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("syncing the ESP: %w", err)
	}
	return d.Sync()
}
