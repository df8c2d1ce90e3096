package registry

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// Everything in a layout is written as a part first, blobs/.part-*, outside
// blobs/sha256 where every name is a digest. Who writes a part holds a lock on
// it, so what a killed writer left can be told from work that goes on.
const partPattern = ".part-*"

// lock locks the layout's directory, which needs no file of its own: exclusive
// to replace index.json or to sweep, shared to begin a part.
func (l *Layout) lock(how int) (unlock func(), err error) {
	d, err := os.Open(l.dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), how); err != nil {
		d.Close()
		return nil, fmt.Errorf("locking %q: %w", l.dir, err)
	}
	return func() { d.Close() }, nil
}

func (l *Layout) newPart() (*os.File, error) {
	unlock, err := l.lock(unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return l.newPartLocked()
}

// newPartLocked is newPart for who holds the layout's lock already.
func (l *Layout) newPartLocked() (*os.File, error) {
	f, err := os.CreateTemp(filepath.Join(l.dir, ocispec.ImageBlobsDir), partPattern)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, err
	}
	return f, nil
}

// finishPart makes a part the file path: content first, then the name, so that
// a reader, or a machine that lost its power, finds the old file or the new.
func finishPart(f *os.File, path string) error {
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// writeFile replaces a small file of the layout; for who holds the lock, or is alone.
func (l *Layout) writeFile(name string, b []byte) error {
	f, err := l.newPartLocked()
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(b)
	if err == nil {
		err = finishPart(f, filepath.Join(l.dir, name))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// sweep removes the parts that nobody writes any more.
func (l *Layout) sweep() error {
	unlock, err := l.lock(unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	parts, err := filepath.Glob(filepath.Join(l.dir, ocispec.ImageBlobsDir, partPattern))
	if err != nil {
		return err
	}
	var failed []error
	for _, part := range parts {
		f, err := openBlob(part)
		if err != nil {
			continue // committed meanwhile, or not ours
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			failed = append(failed, os.Remove(part))
		}
		f.Close()
	}
	return errors.Join(failed...)
}
