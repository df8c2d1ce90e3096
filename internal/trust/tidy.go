package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Tidy removes what a run that was cut while it kept something left in the
// directory of a [Client]: generations that are not the current one, and a link that
// was to replace the current one. Where another run is keeping something it does
// nothing; the next does.
func Tidy(dir string) error {
	c := &Client{Dir: dir}
	if _, left, err := c.leftovers(); err != nil || !left {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("clearing %q: %w", dir, err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	} else if err != nil {
		return fmt.Errorf("clearing %q: %w", dir, err)
	}
	current, _, err := c.leftovers() // it may be another one by now
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, currentName+".new")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clearing %q: %w", dir, err)
	}
	if err := c.clean(current); err != nil {
		return fmt.Errorf("clearing %q: %w", dir, err)
	}
	return nil
}

// leftovers reports which generation is current, empty for none, and whether there
// is anything that Tidy would remove.
func (c *Client) leftovers() (current string, left bool, err error) {
	current, err = os.Readlink(filepath.Join(c.Dir, currentName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", false, nil // it is no link: what is damaged is healed by whoever next keeps something
	}
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		return "", false, err
	}
	for _, e := range entries {
		other := strings.HasPrefix(e.Name(), generationName) && e.Name() != current
		left = left || other || e.Name() == currentName+".new"
	}
	return current, left, nil
}
