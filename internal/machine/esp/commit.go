package esp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// Commit writes the boot file of image d, size bytes from r, and makes it an
// entry with Tries tries. The last rename in here is what stages a deployment:
//
//	written   NAME.ashlar-partial, which the loader does not see; Clean removes it
//	synced    the same, every byte on the disk
//	named     NAME+3.efi
//	durable   the name is on the disk
//
// FAT has no journal. The rename changes directory entries only, after
// everything they point to was synced, so a cut during it leaves the entry
// absent, or there and whole. Nothing that existed before is written to.
func (p *ESP) Commit(version string, d verity.Digest, r io.Reader, size int64) (Entry, error) {
	name, err := EntryName(version, d)
	if err != nil {
		return Entry{}, fmt.Errorf("writing boot file: %w", err)
	}
	e, err := p.commit(name, r, size)
	if err != nil {
		return Entry{}, fmt.Errorf("writing boot file %q: %w", name, err)
	}
	return e, nil
}

func (p *ESP) commit(name string, r io.Reader, size int64) (Entry, error) {
	dir := filepath.Join(p.Dir, linuxDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Entry{}, err
	}
	// foo.efi and foo+3.efi together would make a good boot end as a bad one
	// (systemd issue 33504), so any form of the name is in the way; but for a
	// damaged file that the loader passes over, which nobody can boot.
	for {
		other, err := p.sole(name, "")
		if err == nil {
			break
		}
		if other == "" || p.read(other).Ignored == "" {
			return Entry{}, err
		}
		if err := p.remove(other); err != nil {
			return Entry{}, err
		}
	}
	tmp := p.file(name + partial)
	if err := p.remove(name + partial); err != nil {
		return Entry{}, err
	}
	if err := p.CheckSpace(size); err != nil {
		return Entry{}, err
	}
	if err := writeExactly(tmp, r, size); err != nil {
		os.Remove(tmp)
		if errors.Is(err, unix.ENOSPC) {
			if sp, spErr := p.Free(); spErr == nil {
				err = &SpaceError{Need: size, Free: sp.Free}
			}
		}
		return Entry{}, err
	}
	file := Entry{Name: name}.WithCounter(Tries, 0).File
	if err := renameNew(tmp, p.file(file)); err != nil {
		os.Remove(tmp)
		return Entry{}, err
	}
	if err := p.sync(); err != nil {
		return Entry{}, err
	}
	return p.read(file), nil
}

func writeExactly(path string, r io.Reader, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(f, io.LimitReader(r, size+1))
	if err != nil {
		return err
	}
	if n > size {
		return fmt.Errorf("the content is longer than the %d bytes announced", size)
	}
	if n < size {
		return fmt.Errorf("the content ends after %d of %d bytes", n, size)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// sole checks that no file but the one named except has this entry's name in
// any of its counted forms; else it returns that file's name with ErrExists.
func (p *ESP) sole(name, except string) (string, error) {
	list, err := os.ReadDir(filepath.Join(p.Dir, linuxDir))
	if err != nil {
		return "", err
	}
	for _, f := range list {
		if e, ok := parseName(f.Name()); ok && e.Name == name && f.Name() != except {
			return f.Name(), fmt.Errorf("%w: %q", ErrExists, f.Name())
		}
	}
	return "", nil
}

// SetCounter renames an entry so that it has that counter; left NoCounter
// removes it, left 0 retires the entry.
func (p *ESP) SetCounter(e Entry, left, done int) (Entry, error) {
	next := e.WithCounter(left, done)
	if err := p.Rename(e.File, next.File); err != nil {
		return Entry{}, err
	}
	return next, nil
}

// Rename gives one of our boot files another counter, durably. Both names must
// be forms of one entry.
func (p *ESP) Rename(from, to string) error {
	a, okA := parseName(from)
	b, okB := parseName(to)
	if !okA || !okB || a.Name != b.Name {
		return fmt.Errorf("renaming boot file %q: %q is not another form of its name", from, to)
	}
	if from == to {
		return nil
	}
	if _, err := p.sole(a.Name, from); err != nil {
		return fmt.Errorf("renaming boot file %q: %w", from, err)
	}
	if err := renameNew(p.file(from), p.file(to)); err != nil {
		return fmt.Errorf("renaming boot file %q: %w", from, err)
	}
	return p.sync()
}

// Remove removes one of our boot files, durably. One that is gone is no error.
func (p *ESP) Remove(e Entry) error {
	if _, ok := parseName(e.File); !ok {
		return fmt.Errorf("removing boot file %q: it is not one of Ashlar's", e.File)
	}
	if err := p.remove(e.File); err != nil {
		return fmt.Errorf("removing boot file: %w", err)
	}
	return nil
}

// remove removes a file of EFI/Linux, durably before anything else is written:
// what it had of the partition may be given to the next file, and after a cut it
// must not be named by both.
func (p *ESP) remove(file string) error {
	if err := os.Remove(p.file(file)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return p.sync()
}

// renameNew renames without ever replacing a file.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// A file system without the flag. The store's lock keeps other
		// writers away, so looking first is as good.
		if _, err := os.Lstat(to); err == nil {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: unix.EEXIST}
		}
		return os.Rename(from, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// sync makes the names in EFI/Linux durable. Linux's vfat renames in three parts:
// the new name with neither content nor length, then both, when the inode is
// written, and the old name's removal. fsync of the directory brings the first and
// the third to the disk, syncfs all of them, but only as far as the drive's cache,
// which fsync flushes. So syncfs comes first: the other order had a moment at which
// a renamed file was on the disk as an empty one, and ended without a flush.
func (p *ESP) sync() error {
	d, err := os.Open(filepath.Join(p.Dir, linuxDir))
	if err != nil {
		return fmt.Errorf("syncing the ESP: %w", err)
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("syncing the ESP: %w", err)
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing the ESP: %w", err)
	}
	return nil
}
