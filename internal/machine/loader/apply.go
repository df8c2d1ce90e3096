package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// partial ends the name of a copy that is being written.
const partial = ".ashlar-partial"

// Apply takes the step. The store's lock must be held, and this boot must have been
// found good. Cut anywhere, it is planned and taken again.
func (m *Machine) Apply(s *State, p Plan) error {
	if err := m.apply(s, p); err != nil {
		return fmt.Errorf("updating the boot loader: %w", err)
	}
	return nil
}

func (m *Machine) apply(s *State, p Plan) error {
	switch p.Step {
	case Try:
		// What the firmware does not take is found out before anything is written.
		number, err := m.enter(p.other)
		if err != nil {
			return err
		}
		if !s.copyAt(p.other).same(p.content) {
			if err := m.replace(p.other, p.content.content); err != nil {
				return err
			}
		}
		// Counted before it is asked for: a loader that hangs is one that was tried.
		if err := m.writeTrial(Trial{p.content.SHA256, s.Tried.of(p.content) + 1, s.boot}); err != nil {
			return err
		}
		return m.startNext(number)
	case GiveUp:
		return m.replace(p.other, p.content.content)
	case Follow:
		// The firmware began with the other copy so far, where there was a try.
		if s.Tried.of(p.content) > 0 {
			number, err := m.enter(p.proven)
			if err != nil {
				return err
			}
			if err := m.startFirst(number); err != nil {
				return err
			}
		}
		if err := m.replace(p.other, p.content.content); err != nil {
			return err
		}
		return m.forgetTrial()
	}
	return nil
}

// Clean removes copies that were being written when the power was cut.
func (m *Machine) Clean() error {
	for _, file := range Copies {
		path := m.path(file)
		err := os.Remove(path + partial)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = syncDir(filepath.Dir(path))
		}
		if err != nil {
			return fmt.Errorf("cleaning up the boot loader: %w", err)
		}
	}
	return nil
}

func (m *Machine) path(file string) string { return filepath.Join(m.ESP, filepath.FromSlash(file)) }

// replace gives a copy another content: a file beside it, on the disk before it
// has the name. vfat changes one slot of the directory then, which is one sector: it
// leads to the old content or to the new one. The old one is kept open until that is
// on the disk, for only then are its clusters given back, and a slot that still led
// to them would lead to whatever comes next.
func (m *Machine) replace(file string, content []byte) error {
	path := m.path(file)
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if old, err := os.Open(path); err == nil {
		defer old.Close()
	}
	tmp := path + partial
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	return syncDir(dir)
}

// syncDir makes names durable, in the order of package esp, which says why.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("syncing the ESP: %w", err)
	}
	return d.Sync()
}
