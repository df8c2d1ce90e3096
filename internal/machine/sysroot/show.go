package sysroot

import (
	"errors"
	"os"
)

// ShowImage mounts an image's tree, read-only and checked like a root, in a
// directory of its own, for as long as the caller looks at it.
func ShowImage(image *os.File, objects string) (dir string, release func() error, err error) {
	dir, err = os.MkdirTemp("/run", "ashlar-image-")
	if err != nil {
		return "", nil, err
	}
	if err := mountImage(image, objects, dir, requireSeals); err != nil {
		return "", nil, errors.Join(err, os.Remove(dir))
	}
	return dir, func() error { return errors.Join(unmount(dir), os.Remove(dir)) }, nil
}
