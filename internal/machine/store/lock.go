package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrBusy is what errors.Is finds when somebody else changes the store.
var ErrBusy = errors.New("another ashlar is at work")

// BusyError says who holds the lock.
type BusyError struct {
	PID  int    // 0 when it did not get to say
	Verb string // such as "update"
}

func (e *BusyError) Error() string {
	if e.PID == 0 {
		return ErrBusy.Error()
	}
	return fmt.Sprintf("another ashlar is at work: %q, process %d", e.Verb, e.PID)
}

// Is makes errors.Is(err, ErrBusy) true.
func (e *BusyError) Is(target error) bool { return target == ErrBusy }

// Lock takes the store's lock for verb, or returns a *BusyError at once. The
// lock goes with the process: a killed holder leaves nothing to clean up.
// The file stays; only flock(2) says whether it is held.
func (s *Store) Lock(verb string) (unlock func(), err error) {
	f, err := os.OpenFile(s.path(lockFile), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking store: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, holder(f)
		}
		return nil, fmt.Errorf("locking store: %w", err)
	}
	// For people only, so neither synced nor trusted; written over in place
	// because a renamed file would be another lock.
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d %s\n", os.Getpid(), verb)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking store: %w", err)
	}
	return func() { _ = f.Truncate(0); _ = f.Close() }, nil
}

func holder(f *os.File) *BusyError {
	buf := make([]byte, 128)
	n, _ := f.ReadAt(buf, 0)
	pid, verb, _ := strings.Cut(strings.TrimSpace(string(buf[:n])), " ")
	e := &BusyError{Verb: verb}
	if v, err := strconv.Atoi(pid); err == nil && v > 0 {
		e.PID = v
	}
	return e
}

// CleanTmp removes what earlier runs left half done. The lock must be held.
func (s *Store) CleanTmp() error {
	entries, err := os.ReadDir(s.path(tmpDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cleaning up: %w", err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(s.path(tmpDir), e.Name())); err != nil {
			return fmt.Errorf("cleaning up: %w", err)
		}
	}
	return nil
}
