package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// tmpPrefix begins the names under which WriteFileAtomic writes: ".tmp-NAME-",
// and then digits.
const tmpPrefix = ".tmp-"

// WriteFileAtomic replaces path by data: after a cut the old content is there
// or the new one, never a part. The temporary name begins with ".tmp-".
//
// Order: the data is on the disk before the name points at it (fsync, then
// rename), and the name is on the disk before this returns (fsync of the
// directory).
//
// Not everybody who writes holds the store's lock: health checks and the end of a
// boot do not. So that nobody takes their file for a leftover it is locked until it
// has its name.
func WriteFileAtomic(path string, data []byte, mode os.FileMode) error {
	f, err := createLocked(filepath.Dir(path), tmpPrefix+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it has been renamed, as it should
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// createLocked makes a file that removeAbandoned leaves alone while it is open. One
// that was removed between the two calls is made again.
func createLocked(dir, prefix string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(dir, prefix)
		if err != nil {
			return nil, err
		}
		var st unix.Stat_t
		err = errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_EX), unix.Fstat(int(f.Fd()), &st))
		if err != nil {
			os.Remove(f.Name())
			f.Close()
			return nil, fmt.Errorf("locking %q: %w", f.Name(), err)
		}
		if st.Nlink > 0 {
			return f, nil
		}
		f.Close()
	}
}

// abandoned is the name of what WriteFileAtomic was writing for one of our files.
var abandoned = regexp.MustCompile(`^` + regexp.QuoteMeta(tmpPrefix) + `(.+)-[0-9]+$`)

// isAbandoned reports whether name is a temporary one of a file for which ours
// answers true.
func isAbandoned(name string, ours func(string) bool) bool {
	m := abandoned.FindStringSubmatch(name)
	return m != nil && ours(m[1])
}

// removeAbandoned removes what writers that are gone left in dir.
func removeAbandoned(dir string, ours func(string) bool) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if !strings.HasPrefix(e.Name(), tmpPrefix) || !e.Type().IsRegular() || !isAbandoned(e.Name(), ours) {
			continue
		}
		if err := removeUnlocked(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// removeUnlocked removes a file that nobody is writing.
func removeUnlocked(path string) error {
	f, err := openRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	} else if err != nil {
		return fmt.Errorf("locking %q: %w", path, err)
	}
	return remove(path)
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing %q: %w", dir, err)
	}
	return nil
}
