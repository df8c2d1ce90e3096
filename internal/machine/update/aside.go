package update

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/limited"
	"github.com/ashlar-os/ashlar/internal/machine/history"
	"github.com/ashlar-os/ashlar/internal/machine/store"
)

// A release that failed here, or that was put aside before it ever came up
// well, is not staged again by itself. While its boot file is there, the file's
// name says so. A boot file has some hundred megabytes, though, and a machine
// whose channel has had a run of bad releases must have room for the good one;
// so clearing up takes everything of such a deployment but its deployment.json
// and, beside it, this:

// asideFile is the name of an aside in the deployment's directory.
const asideFile = "aside.json"

// asideSchema is the version of aside.json.
const asideSchema = 1

// maxAside is how much of aside.json is read, bytes.
const maxAside = 4 << 10

// aside is aside.json.
type aside struct {
	Schema int  `json:"schema"`
	Role   Role `json:"role"`  // Failed or Retired
	Tries  int  `json:"tries"` // how often a failed one was tried
}

// readAside reads the memory of a deployment; one that cannot be read is none.
func (m *Machine) readAside(d verity.Digest) *aside {
	b, err := limited.File(m.asidePath(d), maxAside)
	if err != nil {
		return nil
	}
	a, err := decodeAside(b)
	if err != nil {
		return nil
	}
	return a
}

func decodeAside(b []byte) (*aside, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var a aside
	if err := dec.Decode(&a); err != nil {
		return nil, err
	}
	switch {
	case a.Schema != asideSchema:
		return nil, fmt.Errorf("field %q: %d is not known here", "schema", a.Schema)
	case a.Role != Failed && a.Role != Retired:
		return nil, fmt.Errorf("field %q: %q is not known here", "role", a.Role)
	case a.Tries < 0:
		return nil, fmt.Errorf("field %q: %d is negative", "tries", a.Tries)
	}
	return &a, nil
}

// putAside remembers a deployment that still has its boot file.
func (m *Machine) putAside(d *Deployment) error {
	a := aside{Schema: asideSchema, Role: d.memory()}
	if a.Role == Failed {
		a.Tries = d.tries()
	}
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if err := store.WriteFileAtomic(m.asidePath(d.Image), append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("remembering %s: %w", d.ID(), err)
	}
	return nil
}

// memory is as what a deployment is remembered when it goes.
func (d *Deployment) memory() Role {
	if d.Is(Failed) {
		return Failed
	}
	return Retired
}

// tries is how often a failed deployment was tried.
func (d *Deployment) tries() int {
	switch {
	case d.Entry != nil:
		return d.Entry.Done
	case d.aside != nil:
		return d.aside.Tries
	}
	return 0
}

func (m *Machine) asidePath(d verity.Digest) string {
	return filepath.Join(m.Store.DeploymentPath(d), asideFile)
}

func (m *Machine) failurePath(d verity.Digest) string {
	return filepath.Join(m.Store.DeploymentPath(d), history.FailureFile)
}

// forget removes one of the two files, or neither when it is not there.
func forget(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
