package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// Names below the store's directory.
const (
	objectsDir     = "objects"
	imagesDir      = "images"
	deploymentsDir = "deployments"
	varDir         = "var"
	trustDir       = "trust"
	tmpDir         = "tmp"
	lockFile       = "lock"
	unsealedFile   = "unsealed"
)

// layout lists the directories of a store with their modes. Objects are
// readable by name only through an image: the object directory itself would
// let anyone read what an image gives to root alone.
var layout = []layoutDir{
	{objectsDir, 0o700}, {imagesDir, 0o700}, {deploymentsDir, 0o755},
	{varDir, 0o755}, {trustDir, 0o755}, {tmpDir, 0o700},
}

type layoutDir struct {
	name string
	mode fs.FileMode
}

// Store is the /ashlar directory of a machine, or of a tree that plays one.
type Store struct {
	Dir    string
	Sealer Sealer // Kernel, unless the caller sets another
}

// Create makes the directories of a store in dir, which may exist already, and opens it.
func Create(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("creating store: %w", err)
	}
	for _, d := range layout {
		path := filepath.Join(dir, d.name)
		if err := os.Mkdir(path, d.mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("creating store: %w", err)
		}
		// Mkdir's mode passes through the umask; a store must not depend on it.
		if err := os.Chmod(path, d.mode); err != nil {
			return nil, fmt.Errorf("creating store: %w", err)
		}
	}
	return Open(dir)
}

// Open opens the store in dir.
func Open(dir string) (*Store, error) {
	for _, name := range []string{objectsDir, imagesDir, deploymentsDir} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("%q is not a store: %w", dir, err)
		}
		if !st.IsDir() {
			return nil, fmt.Errorf("%q is not a store: %q is not a directory", dir, name)
		}
	}
	return &Store{Dir: dir, Sealer: Kernel}, nil
}

// OpenPayload opens the store in the payload of a medium: objects and images, and
// nothing of a machine. Its files have no seals, for all of it is below one; so they are
// measured by reading.
func OpenPayload(dir string) (*Store, error) {
	for _, name := range []string{objectsDir, imagesDir} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return nil, fmt.Errorf("%q is not a store: %w", dir, err)
		} else if !st.IsDir() {
			return nil, fmt.Errorf("%q is not a store: %q is not a directory", dir, name)
		}
	}
	return &Store{Dir: dir, Sealer: Software}, nil
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.Dir}, elem...)...)
}

// ObjectName is the name of an object below objects/: "ab/cdef…".
func ObjectName(d verity.Digest) string {
	hex := d.String()
	return hex[:2] + "/" + hex[2:]
}

// ObjectsPath is the directory that overlayfs takes as its data-only layer.
func (s *Store) ObjectsPath() string { return s.path(objectsDir) }

// ObjectPath is where the object d is, or would be.
func (s *Store) ObjectPath(d verity.Digest) string { return s.path(objectsDir, ObjectName(d)) }

// ImagePath is where the image d is, or would be.
func (s *Store) ImagePath(d verity.Digest) string { return s.path(imagesDir, d.String()) }

// DeploymentPath is the directory of the deployment of image d.
func (s *Store) DeploymentPath(d verity.Digest) string {
	return s.path(deploymentsDir, d.String())
}

// EtcUpper is the overlay upper directory of a deployment's /etc; it exists
// from the deployment's first boot on.
func (s *Store) EtcUpper(d verity.Digest) string { return filepath.Join(s.DeploymentPath(d), "etc") }

// EtcNew is where the first boot merges what becomes EtcUpper.
func (s *Store) EtcNew(d verity.Digest) string { return filepath.Join(s.DeploymentPath(d), etcNew) }

// EtcWork is the overlay work directory that goes with EtcUpper.
func (s *Store) EtcWork(d verity.Digest) string { return filepath.Join(s.DeploymentPath(d), "work") }

// EtcReport is where the report of a deployment's /etc merge is kept.
func (s *Store) EtcReport(d verity.Digest) string {
	return filepath.Join(s.DeploymentPath(d), "etc.json")
}

// VarPath is what every deployment sees as /var. With a [VarDisk] it is empty, and a
// place to mount that at before any deployment runs.
func (s *Store) VarPath() string { return s.path(varDir) }

// TrustPath is where accepted trust metadata is kept.
func (s *Store) TrustPath() string { return s.path(trustDir) }

// UnsealedMarker is the file that a disk image carries until its first boot
// has sealed every object and image.
func (s *Store) UnsealedMarker() string { return s.path(unsealedFile) }

// HasObject reports whether the object d is there, whole and sealed. It costs
// an open and an ioctl, so asking for every object of an image is cheap.
func (s *Store) HasObject(d verity.Digest) bool { return s.check(s.ObjectPath(d), d) == nil }

// HasImage reports whether the image d is there, whole and sealed.
func (s *Store) HasImage(d verity.Digest) bool { return s.check(s.ImagePath(d), d) == nil }

// CheckImage says why HasImage would be false.
func (s *Store) CheckImage(d verity.Digest) error { return s.check(s.ImagePath(d), d) }

// OpenImage opens the image d for reading after measuring it: what the caller
// reads through this file is what the digest names, for the kernel checks
// every page.
func (s *Store) OpenImage(d verity.Digest) (*os.File, error) {
	f, err := s.openSealed(s.ImagePath(d), d)
	if err != nil {
		return nil, fmt.Errorf("opening image %s: %w", d.Short(), err)
	}
	return f, nil
}

// OpenObject opens the object d for reading, as OpenImage does an image.
func (s *Store) OpenObject(d verity.Digest) (*os.File, error) {
	f, err := s.openSealed(s.ObjectPath(d), d)
	if err != nil {
		return nil, fmt.Errorf("opening object %s: %w", d.Short(), err)
	}
	return f, nil
}

func (s *Store) check(path string, d verity.Digest) error {
	f, err := s.openSealed(path, d)
	if err != nil {
		return err
	}
	return f.Close()
}

func (s *Store) openSealed(path string, d verity.Digest) (*os.File, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	got, err := s.Sealer.Measure(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	if got != d {
		f.Close()
		return nil, &DigestError{Path: path, Want: d, Got: got}
	}
	return f, nil
}

// openRegular opens a regular file without following a link and without
// waiting on a pipe somebody left under that name.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if !st.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%q is not a regular file", path)
	}
	return f, nil
}

// DigestError says that a file is not what its name says.
type DigestError struct {
	Path      string
	Want, Got verity.Digest
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("%q has the digest %s, want %s", e.Path, e.Got, e.Want)
}
