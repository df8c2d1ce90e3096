package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// workPrefix begins the names of the directories that builds work in.
const workPrefix = ".ashlar-build-"

// workspace is the directory that one build works in. It is inside the
// directory of the result, so that finished files are renamed into place. Its
// owner holds a lock on it: what a killed build left can be told from one that
// goes on.
type workspace struct {
	dir  string
	lock *os.File
	made []string // directories that were made for it, the deepest first
	left error    // of an earlier build, what could not be removed
}

// openWorkspace makes a work directory in out, out itself where it is missing,
// and removes what killed builds left there.
func openWorkspace(out string) (w *workspace, err error) {
	w = &workspace{}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	for dir := filepath.Clean(out); ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		w.made = append(w.made, dir)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	// Between the making of a work directory and its lock nobody may sweep.
	out, err = filepath.EvalSymlinks(out) // a link to the result's directory is fine
	if err != nil {
		return nil, err
	}
	all, err := lockDir(out, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer all.Close()
	w.left = sweepWorkspaces(out)
	if w.dir, err = os.MkdirTemp(out, workPrefix); err != nil {
		return nil, err
	}
	w.lock, err = lockDir(w.dir, unix.LOCK_EX)
	return w, err
}

// close removes the workspace, and what was made for it if nothing else is there.
func (w *workspace) close() error {
	var err error
	if w.dir != "" {
		err = os.RemoveAll(w.dir)
	}
	if w.lock != nil {
		w.lock.Close()
	}
	for _, dir := range w.made {
		if os.Remove(dir) != nil {
			break // the result is in it
		}
	}
	return err
}

// sweepWorkspaces removes the work directories that nobody holds.
func sweepWorkspaces(out string) error {
	entries, err := os.ReadDir(out)
	if err != nil {
		return err
	}
	var failed []error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), workPrefix) {
			continue
		}
		dir := filepath.Join(out, e.Name())
		held, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue // a build that goes on
		}
		if err == nil {
			err = os.RemoveAll(dir)
			held.Close()
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("removing what a killed build left: %w", err))
		}
	}
	return errors.Join(failed...)
}

// lockDir opens a directory and locks it, as flock(2) with how.
func lockDir(dir string, how int) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %q: %w", dir, err)
	}
	return f, nil
}
