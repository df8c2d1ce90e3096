package sysroot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// triesAfterFailure is the counter that a boot entry without one gets when it
// fails: one try is done, two are left (docs/boot.md).
const triesAfterFailure = "+2-1"

// rearm makes the loader count the boots of this deployment again. Counting
// ends at the first good boot, so a deployment whose files go bad later would
// be started for ever. An entry that is being counted is left as it is: the
// loader has counted this boot already.
func (b *boot) rearm() error {
	if b.disk.esp == "" {
		return nil // the failure came before the disk was found
	}
	for _, name := range []string{"nls_cp437", "nls_ascii", "vfat"} {
		if err := b.loader.load(name); err != nil {
			return err
		}
	}
	const esp = "/esp"
	if err := os.MkdirAll(esp, 0o700); err != nil {
		return err
	}
	// dirsync, so that a cut in the middle of the rename leaves one of the names.
	if err := mountFS("vfat", esp, 0, setting{"source", b.disk.esp}, setting{"dirsync", ""},
		setting{"codepage", "437"}, setting{"iocharset", "ascii"}); err != nil {
		return err
	}
	return errors.Join(rearmEntry(filepath.Join(esp, "EFI/Linux"), b.params.image.Short()), unmount(esp))
}

// rearmEntry gives the boot entry of an image in dir a counter, if it has none.
// One rename changes it, to a name that the loader takes for the same entry.
func rearmEntry(dir, digest12 string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".efi")
		if !ok || !strings.HasPrefix(name, "ashlar_") || !strings.HasSuffix(name, "_"+digest12) {
			continue
		}
		counted := filepath.Join(dir, name+triesAfterFailure+".efi")
		if err := os.Rename(filepath.Join(dir, e.Name()), counted); err != nil {
			return fmt.Errorf("counting its boots: %w", err)
		}
		return syncDir(dir)
	}
	return nil
}
