package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// resetFile asks the next boot to take away what this machine has of its own.
const resetFile = "reset"

// AskReset has the next boot reset the machine. The system that runs has /etc and
// /var open; so it is done by the first process of the next boot, before anything is.
func (s *Store) AskReset() error {
	if err := WriteFileAtomic(s.path(resetFile), nil, 0o644); err != nil {
		return fmt.Errorf("asking for a reset: %w", err)
	}
	return nil
}

// CancelReset takes the wish back. That there was none is no error.
func (s *Store) CancelReset() error {
	if err := os.Remove(s.path(resetFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("taking a reset back: %w", err)
	}
	return syncDir(s.Dir)
}

// ResetAsked reports whether the next boot will reset the machine.
func (s *Store) ResetAsked() bool {
	_, err := os.Lstat(s.path(resetFile))
	return err == nil
}

// Reset gives /var and the /etc of every deployment back to the images' defaults,
// when that was asked for, and reports whether it was. Nothing may have any of it open; a
// /var that has a disk of its own is mounted at VarPath.
//
// What is sealed stays, and so do the deployments themselves, the signed metadata that was
// accepted (a reset must not make a machine believe the past) and the history. The wish goes
// last: cut before, the next boot does it all again, and what that finds is empty
// already.
func (s *Store) Reset() (bool, error) {
	if !s.ResetAsked() {
		return false, nil
	}
	if err := s.reset(); err != nil {
		return true, fmt.Errorf("resetting the machine: %w", err)
	}
	return true, nil
}

func (s *Store) reset() error {
	if err := os.MkdirAll(s.path(tmpDir), 0o700); err != nil {
		return err
	}
	old, err := os.MkdirTemp(s.path(tmpDir), "reset-")
	if err != nil {
		return err
	}
	if err := s.resetVar(old); err != nil {
		return err
	}
	survey, err := s.Survey()
	if err != nil {
		return err
	}
	for _, dep := range survey.Deployments {
		dir := s.DeploymentPath(dep.Image)
		for _, path := range []string{s.EtcUpper(dep.Image), s.EtcWork(dep.Image), s.EtcReport(dep.Image)} {
			if err := moveAway(path, filepath.Join(old, dep.Image.String()+"-"+filepath.Base(path))); err != nil {
				return err
			}
		}
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(old); err != nil {
		return err
	}
	if err := syncFS(s.Dir); err != nil {
		return err
	}
	return s.CancelReset()
}

// resetVar empties /var; old is where what is to be removed goes.
func (s *Store) resetVar(old string) error {
	disk, err := s.VarDisk()
	if err != nil {
		return err
	}
	if disk != nil {
		return s.emptyVarDisk(disk)
	}
	// Renamed first: a /var of which half is gone must not be taken for one.
	if err := moveAway(s.VarPath(), filepath.Join(old, varDir)); err != nil {
		return err
	}
	if err := os.Mkdir(s.VarPath(), 0o755); err != nil {
		return err
	}
	return os.Chmod(s.VarPath(), 0o755) // whatever the umask
}

// emptyVarDisk empties the file system that is mounted at VarPath. It cannot be renamed:
// what keeps a half of it from being taken for a /var is that the wish stays until
// all of it is gone, and that is on its disk. lost+found belongs to the file
// system.
func (s *Store) emptyVarDisk(disk *VarDisk) error {
	var store, vars unix.Stat_t
	if err := errors.Join(unix.Stat(s.Dir, &store), unix.Stat(s.VarPath(), &vars)); err != nil {
		return err
	}
	if store.Dev == vars.Dev {
		return fmt.Errorf("/var is on the disk %q, and that is not mounted", disk.Disk)
	}
	for _, dir := range []string{filepath.Join(s.VarPath(), "lost+found"), s.VarPath()} {
		list, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range list {
			if dir == s.VarPath() && e.Name() == "lost+found" && e.IsDir() {
				continue
			}
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return syncFS(s.VarPath())
}

// moveAway renames what may not be there.
func moveAway(from, to string) error {
	if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
