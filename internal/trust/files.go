package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// writeFile makes a new file, and is sure of its content when it returns. It
// never replaces one.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// publishFile makes a new file whole or not at all: it is written under another
// name and then linked, which fails when the name is taken.
func publishFile(path string, data []byte, mode fs.FileMode) error {
	return viaPartial(path, data, mode, os.Link)
}

// replaceFile is publishFile for a file that may be there.
func replaceFile(path string, data []byte, mode fs.FileMode) error {
	return viaPartial(path, data, mode, os.Rename)
}

func viaPartial(path string, data []byte, mode fs.FileMode, place func(from, to string) error) error {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".partial-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	partial := filepath.Join(dir, filepath.Base(path))
	if err := writeFile(partial, data, mode); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	if err := place(partial, path); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
