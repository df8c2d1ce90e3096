package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/limited"
)

// VarSchema is the version of var.json that this package writes and reads.
const VarSchema = 1

const (
	varFile    = "var.json"
	varKeyFile = "var.key"
	maxVarFile = 4 << 10 // bytes of var.json

	// VarKeySize is the length of the key of an encrypted /var, in bytes.
	VarKeySize = 64
)

// VarDisk is var.json: the partition of another disk that this machine has as its
// /var. A machine without the file has /var in the store. See docs/store.md.
type VarDisk struct {
	Schema    int    `json:"schema"`
	PartUUID  string `json:"partuuid"`  // of the partition, lower case
	Disk      string `json:"disk"`      // stable id of the disk when it was installed; for people
	Encrypted bool   `json:"encrypted"` // LUKS2, and VarKey opens it
}

// Check names the first field that is not as docs/store.md says.
func (v *VarDisk) Check() error {
	id, err := gpt.Parse(v.PartUUID)
	switch {
	case v.Schema != VarSchema:
		return fmt.Errorf("field %q: %d is not known here, want %d", "schema", v.Schema, VarSchema)
	case err != nil || id.IsZero() || id.String() != v.PartUUID:
		return fmt.Errorf("field %q: %.80q is not a UUID in lower case", "partuuid", v.PartUUID)
	case v.Disk == "" || len(v.Disk) > maxField || strings.ContainsFunc(v.Disk, func(r rune) bool { return unicode.IsControl(r) || r == '\uFFFD' }):
		return fmt.Errorf("field %q: %.80q is empty, longer than %d bytes, or has a control character", "disk", v.Disk, maxField)
	}
	return nil
}

// decodeVarDisk reads var.json strictly: known fields only, one value, every field checked.
func decodeVarDisk(b []byte) (*VarDisk, error) {
	var v VarDisk
	if err := decodeStrict(b, &v); err != nil {
		return nil, err
	}
	return &v, v.Check()
}

// VarDisk reads which partition is /var; nil where it is in the store.
func (s *Store) VarDisk() (*VarDisk, error) {
	b, err := limited.File(s.path(varFile), maxVarFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading where /var is: %w", err)
	}
	v, err := decodeVarDisk(b)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", s.path(varFile), err)
	}
	return v, nil
}

// VarKey reads the key of an encrypted /var. It is as secret as the partition that
// the store is on.
func (s *Store) VarKey() ([]byte, error) {
	b, err := limited.File(s.path(varKeyFile), VarKeySize)
	if err == nil && len(b) != VarKeySize {
		err = fmt.Errorf("%q has %d bytes, want %d", s.path(varKeyFile), len(b), VarKeySize)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key of /var: %w", err)
	}
	return b, nil
}

// WriteVarDisk keeps which partition is /var, with its key where it is encrypted. The
// key is there before anything says that it is needed.
func (s *Store) WriteVarDisk(v *VarDisk, key []byte) error {
	if err := v.Check(); err != nil {
		return fmt.Errorf("writing where /var is: %w", err)
	}
	if v.Encrypted {
		if len(key) != VarKeySize {
			return fmt.Errorf("writing where /var is: its key has %d bytes, want %d", len(key), VarKeySize)
		}
		if err := WriteFileAtomic(s.path(varKeyFile), key, 0o400); err != nil {
			return fmt.Errorf("writing the key of /var: %w", err)
		}
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := WriteFileAtomic(s.path(varFile), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing where /var is: %w", err)
	}
	return nil
}
