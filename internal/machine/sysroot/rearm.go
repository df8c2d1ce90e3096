package sysroot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
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
// Where it is out of tries, and every other one as well, another gets a try: the
// loader alone would start the newest of them for ever, and one that gets
// further never. One rename changes either, to a name that the loader takes for
// the same entry.
func rearmEntry(dir, digest12 string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var own, other *counted
	for _, f := range files {
		e, ok := parseCounted(f.Name())
		if !ok {
			continue
		}
		switch {
		case strings.HasSuffix(e.name, "_"+digest12):
			own = &e
		case e.left != 0:
			other = &counted{left: e.left} // there is something else to boot
		case other == nil || other.left == 0 && e.done < other.done:
			other = &e
		}
	}
	var from, to string
	switch {
	case own == nil:
		return nil
	case own.left < 0:
		from, to = own.file, own.name+triesAfterFailure+".efi"
	case own.left == 0 && other != nil && other.left == 0:
		from, to = other.file, other.name+other.oneTry()+".efi"
	default:
		return nil
	}
	if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
		return fmt.Errorf("counting boots: %w", err)
	}
	return syncDir(dir)
}

// counted is the name of a boot file, taken apart (docs/esp.md).
type counted struct {
	file, name string
	left, done int // left -1: not counted
}

func (c *counted) oneTry() string {
	if c.done == 0 {
		return "+1"
	}
	return fmt.Sprintf("+1-%d", c.done)
}

// parseCounted reads the name of one of Ashlar's boot files.
func parseCounted(file string) (counted, bool) {
	c := counted{file: file, left: -1}
	stem, ok := strings.CutSuffix(file, ".efi")
	if !ok || !strings.HasPrefix(stem, "ashlar_") {
		return c, false
	}
	name, counter, ok := strings.Cut(stem, "+")
	if c.name = name; !ok {
		return c, true
	}
	left, done, tried := strings.Cut(counter, "-")
	var err error
	if c.left, err = strconv.Atoi(left); err != nil || c.left < 0 {
		return c, false
	}
	if tried {
		if c.done, err = strconv.Atoi(done); err != nil || c.done < 0 {
			return c, false
		}
	}
	return c, true
}
