package esp

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// What a cut leaves on a FAT, besides a boot file that is not complete. A long
// name is several slots of a directory, and a rename adds the new name before it
// removes the old one: of a name that is cut through, the 8.3 alias remains, and a
// name that was added too early is one of an empty file. fsck.vfat, which checks
// the ESP before it is mounted, empties one of two names for the same clusters, and
// gives clusters that no name leads to a file of their own.
var (
	aliasOfEntry   = regexp.MustCompile(`^(?i:ASHLAR~[1-9]|AS[0-9A-F]{4}~[1-9])\.(?i:EFI)$`)
	aliasOfPartial = regexp.MustCompile(`^(?i:ASHLAR~[1-9]|AS[0-9A-F]{4}~[1-9])\.(?i:ASH)$`)
	recovered      = regexp.MustCompile(`^(?i:FSCK[0-9]{4}\.REC)$`)
)

// loaderFiles are what `ashlar secureboot enroll` replaces, each by way of a partial
// one beside it.
var loaderFiles = []string{
	"loader/loader.conf", "loader/keys/auto/db.auth", "loader/keys/auto/KEK.auth", "loader/keys/auto/PK.auth",
}

// Clean removes what a cut Commit, Rename or enrolment left, and gives back its name to a
// boot file that lost it. Other files stay. The store's lock must be held.
func (p *ESP) Clean() error {
	if err := p.clean(); err != nil {
		return fmt.Errorf("cleaning up the ESP: %w", err)
	}
	return nil
}

func (p *ESP) clean() error {
	list, err := os.ReadDir(filepath.Join(p.Dir, linuxDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range list {
		if !f.Type().IsRegular() {
			continue
		}
		_, ours := parseName(f.Name())
		switch {
		case isPartial(f.Name()), aliasOfPartial.MatchString(f.Name()), ours && p.empty(f.Name()):
			err = p.remove(f.Name())
		case aliasOfEntry.MatchString(f.Name()):
			err = p.restoreName(f.Name())
		}
		if err != nil {
			return err
		}
	}
	for _, name := range loaderFiles {
		if err := p.removeAnywhere(name + partial); err != nil {
			return err
		}
	}
	return p.removeRecovered()
}

// removeAnywhere removes a file of the ESP, by its path there, durably.
func (p *ESP) removeAnywhere(name string) error {
	if err := os.Remove(filepath.Join(p.Dir, filepath.FromSlash(name))); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return p.sync()
}

func (p *ESP) empty(file string) bool {
	st, err := os.Lstat(p.file(file))
	return err == nil && st.Size() == 0
}

// restoreName gives a boot file of ours its whole name again. How often it was
// tried is lost with the name, so it has to prove itself anew. Where the entry has
// a name already the alias is one too many.
func (p *ESP) restoreName(file string) error {
	if p.empty(file) {
		return p.remove(file)
	}
	u, err := ReadUKI(p.file(file))
	if err != nil || u.Image.IsZero() {
		return nil // it is somebody else's, or nobody's
	}
	_, version, _ := sortFields(u.OSRelease)
	name, err := EntryName(version, u.Image)
	if err != nil {
		return nil
	}
	if other, err := p.sole(name, ""); other != "" || err != nil {
		return nil
	}
	if err := renameNew(p.file(file), p.file(Entry{Name: name}.WithCounter(Tries, 0).File)); err != nil {
		return err
	}
	return p.sync()
}

// removeRecovered removes the files that fsck.vfat made of clusters that no name
// led to. They are pieces of what was being written or removed at the cut, mostly
// without a beginning, so only their names tell; and a boot file is too large to
// leave a piece of one behind at every cut.
func (p *ESP) removeRecovered() error {
	list, err := os.ReadDir(p.Dir)
	if err != nil {
		return err
	}
	for _, f := range list {
		if !recovered.MatchString(f.Name()) || !f.Type().IsRegular() {
			continue
		}
		if err := p.removeAnywhere(f.Name()); err != nil {
			return err
		}
	}
	return nil
}
