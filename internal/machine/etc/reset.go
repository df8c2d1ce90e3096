package etc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Reset gives a path, and everything below it, back the image's version, and
// returns what it changed. name is absolute, "/etc/…".
//
// It writes through the mounted /etc: changing an overlay's upper directory
// behind its back is undefined (Documentation/filesystems/overlayfs.rst,
// "Changes to underlying filesystems"). So a file that was changed stays in
// the upper directory, equal to the image's, which Diff does not list and the
// next Merge drops.
func Reset(o ResetOptions, name string) ([]Change, error) {
	clean := path.Clean(name)
	if clean != "/etc" && !strings.HasPrefix(clean, "/etc/") {
		return nil, fmt.Errorf("resetting %q: it is not below /etc", name)
	}
	all, err := Diff(o.Lower, o.Upper)
	if err != nil {
		return nil, err
	}
	var list []Change
	for _, c := range all {
		if c.Path == clean || strings.HasPrefix(c.Path, clean+"/") {
			list = append(list, c)
		}
	}
	// What was added goes first, innermost first, so that what was removed or
	// changed its type finds its place free; then parents come before children.
	for _, c := range slices.Backward(list) {
		if c.Kind != Added {
			continue
		}
		if err := os.Remove(o.merged(c.Path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("resetting %q: %w", c.Path, err)
		}
	}
	for _, c := range list {
		if c.Kind == Added {
			continue
		}
		if err := o.restore(c); err != nil {
			return nil, fmt.Errorf("resetting %q: %w", c.Path, err)
		}
	}
	return list, nil
}

func (o ResetOptions) merged(name string) string {
	return filepath.Join(o.Merged, strings.TrimPrefix(name, "/etc"))
}

// restore puts the image's version of a changed or removed path in place.
func (o ResetOptions) restore(c Change) error {
	dst := o.merged(c.Path)
	src, err := read(filepath.Join(o.Lower, strings.TrimPrefix(c.Path, "/etc")))
	if err != nil {
		return err
	}
	if src == nil {
		return fs.ErrNotExist
	}
	if src.isDir() && c.Kind == Changed && c.What != "type" {
		return setMeta(dst, src.typ, src.meta)
	}
	e, err := copyTree(src)
	if err != nil {
		return err
	}
	// Beside, then renamed over it: a reader of the file sees one or the other.
	tmp := filepath.Join(filepath.Dir(dst), fmt.Sprintf(".ashlar-reset-%d", os.Getpid()))
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := new(writer).write(tmp, e); err != nil {
		return err
	}
	if c.What == "type" {
		// A directory and something else cannot replace each other in one step.
		if err := os.RemoveAll(dst); err != nil {
			return err
		}
	}
	return os.Rename(tmp, dst)
}
