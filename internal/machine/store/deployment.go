package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/limited"
)

// Schema is the version of deployment.json that this package writes and reads.
const Schema = 1

const (
	deploymentFile = "deployment.json"
	maxDeployment  = 64 << 10 // bytes of deployment.json
	maxField       = 512      // bytes of any string in it
)

// Deployment is deployment.json: one image on this machine. See docs/store.md.
type Deployment struct {
	Schema       int           `json:"schema"`
	Image        verity.Digest `json:"image"`
	Name         string        `json:"name"`
	Version      string        `json:"version"`
	Release      string        `json:"release"` // "sha256:…" of the release document
	Origin       Origin        `json:"origin"`
	EtcFrom      string        `json:"etc_from"`       // image whose /etc is merged at first boot; "" for none
	GoodBootsSeq int64         `json:"good_boots_seq"` // larger is later; 0: never booted well
	Pinned       bool          `json:"pinned"`
	Created      string        `json:"created"` // RFC 3339, or ""
}

// Origin is where a deployment came from and where its updates are looked for.
type Origin struct {
	Repository string `json:"repository"`
	Channel    string `json:"channel"`
	Publisher  string `json:"publisher,omitempty"` // whose keys, where a person gave their root; "": those of the image before
}

// EtcBase returns the image named by EtcFrom, and false for none.
func (d *Deployment) EtcBase() (verity.Digest, bool) {
	base, err := verity.Parse(d.EtcFrom)
	return base, err == nil
}

// Check names the first field that is not as docs/store.md says.
func (d *Deployment) Check() error {
	field := func(name, format string, a ...any) error {
		return fmt.Errorf("field %q: "+format, append([]any{name}, a...)...)
	}
	if d.Schema != Schema {
		return field("schema", "%d is not known here, want %d", d.Schema, Schema)
	}
	if d.Image.IsZero() {
		return field("image", "missing")
	}
	for _, f := range []struct {
		name, value string
		required    bool
	}{
		{"name", d.Name, true}, {"version", d.Version, true}, {"release", d.Release, true},
		{"origin.repository", d.Origin.Repository, false}, {"origin.channel", d.Origin.Channel, false},
		{"origin.publisher", d.Origin.Publisher, false},
	} {
		switch {
		case f.required && f.value == "":
			return field(f.name, "missing")
		case len(f.value) > maxField:
			return field(f.name, "longer than %d bytes", maxField)
		case strings.ContainsFunc(f.value, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\uFFFD' }):
			return field(f.name, "%q holds a space or a control character", f.value)
		}
	}
	if strings.ContainsFunc(d.Origin.Publisher, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) }) {
		return field("origin.publisher", "%q is not hexadecimal", d.Origin.Publisher) // it becomes a directory's name
	}
	if hex, ok := strings.CutPrefix(d.Release, "sha256:"); !ok {
		return field("release", "%q does not begin with %q", d.Release, "sha256:")
	} else if _, err := verity.Parse(hex); err != nil {
		return field("release", "%w", err)
	}
	if d.EtcFrom != "" {
		if _, err := verity.Parse(d.EtcFrom); err != nil {
			return field("etc_from", "%w", err)
		}
	}
	if d.GoodBootsSeq < 0 {
		return field("good_boots_seq", "%d is negative", d.GoodBootsSeq)
	}
	if d.Created != "" {
		if _, err := time.Parse(time.RFC3339, d.Created); err != nil {
			return field("created", "%q is not RFC 3339", d.Created)
		}
	}
	return nil
}

// Encode returns deployment.json, indented, for d that passes Check.
func (d *Deployment) Encode() ([]byte, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// decodeStrict reads one JSON value with known fields only.
func decodeStrict(b []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("more follows after the first value")
	}
	return nil
}

// DecodeDeployment reads deployment.json strictly: known fields only, one
// value, every field checked.
func DecodeDeployment(b []byte) (*Deployment, error) {
	if len(b) > maxDeployment {
		return nil, fmt.Errorf("longer than %d bytes", maxDeployment)
	}
	var d Deployment
	if err := decodeStrict(b, &d); err != nil {
		return nil, err
	}
	if err := d.Check(); err != nil {
		return nil, err
	}
	return &d, nil
}

// Deployment reads the deployment of image d; fs.ErrNotExist when there is none.
func (s *Store) Deployment(d verity.Digest) (*Deployment, error) {
	path := filepath.Join(s.DeploymentPath(d), deploymentFile)
	b, err := limited.File(path, maxDeployment)
	if err != nil {
		return nil, fmt.Errorf("reading deployment %s: %w", d.Short(), err)
	}
	dep, err := DecodeDeployment(b)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", path, err)
	}
	if dep.Image != d {
		return nil, fmt.Errorf("reading %q: field %q: %s is not the directory's name", path, "image", dep.Image)
	}
	return dep, nil
}

// Survey is everything below deployments/ and images/.
type Survey struct {
	Deployments []Deployment    // newest version first
	Broken      []Broken        // named like a deployment, but not readable as one
	Images      []verity.Digest // files named like images, unchecked, sorted
}

// Broken is a deployment directory without a valid deployment.json.
type Broken struct {
	Image verity.Digest
	Err   error
}

// Survey lists what is there, and passes over other names, see Unknown. Only a directory that cannot be listed is an error.
func (s *Store) Survey() (Survey, error) {
	var v Survey
	entries, err := os.ReadDir(s.path(deploymentsDir))
	if err != nil {
		return v, fmt.Errorf("listing deployments: %w", err)
	}
	for _, e := range entries {
		d, err := verity.Parse(e.Name())
		if err != nil || !e.IsDir() {
			continue
		}
		if dep, err := s.Deployment(d); err != nil {
			v.Broken = append(v.Broken, Broken{d, err})
		} else {
			v.Deployments = append(v.Deployments, *dep)
		}
	}
	slices.SortStableFunc(v.Deployments, func(a, b Deployment) int {
		return release.CompareVersions(b.Version, a.Version)
	})
	entries, err = os.ReadDir(s.path(imagesDir))
	if err != nil {
		return v, fmt.Errorf("listing images: %w", err)
	}
	for _, e := range entries {
		if d, err := verity.Parse(e.Name()); err == nil && e.Type().IsRegular() {
			v.Images = append(v.Images, d)
		}
	}
	return v, nil
}

// WriteDeployment creates the deployment of dep.Image or replaces its
// deployment.json. A new directory appears whole or not at all.
func (s *Store) WriteDeployment(dep *Deployment) error {
	b, err := dep.Encode()
	if err != nil {
		return fmt.Errorf("writing deployment %s: %w", dep.Image.Short(), err)
	}
	dir := s.DeploymentPath(dep.Image)
	if _, err := os.Lstat(dir); err == nil {
		if err := WriteFileAtomic(filepath.Join(dir, deploymentFile), b, 0o644); err != nil {
			return fmt.Errorf("writing deployment %s: %w", dep.Image.Short(), err)
		}
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("writing deployment %s: %w", dep.Image.Short(), err)
	}
	if err := s.createDeployment(dir, b); err != nil {
		return fmt.Errorf("writing deployment %s: %w", dep.Image.Short(), err)
	}
	return nil
}

func (s *Store) createDeployment(dir string, b []byte) error {
	if err := os.MkdirAll(s.path(tmpDir), 0o700); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(s.path(tmpDir), "deployment-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) // fails once it has been renamed, as it should
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := WriteFileAtomic(filepath.Join(tmp, deploymentFile), b, 0o644); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// RemoveDeployment removes the deployment of image d with its /etc; its image
// and objects stay until a sweep. The boot entry must be gone already. A
// deployment that is not there is no error.
func (s *Store) RemoveDeployment(d verity.Digest) error {
	if err := os.MkdirAll(s.path(tmpDir), 0o700); err != nil {
		return fmt.Errorf("removing deployment %s: %w", d.Short(), err)
	}
	tmp, err := os.MkdirTemp(s.path(tmpDir), "removed-")
	if err != nil {
		return fmt.Errorf("removing deployment %s: %w", d.Short(), err)
	}
	// Moved away first: half a deployment must never stand under its name.
	err = os.Rename(s.DeploymentPath(d), filepath.Join(tmp, d.String()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		os.Remove(tmp)
		return fmt.Errorf("removing deployment %s: %w", d.Short(), err)
	}
	if err := syncDir(s.path(deploymentsDir)); err != nil {
		return fmt.Errorf("removing deployment %s: %w", d.Short(), err)
	}
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("removing deployment %s: %w", d.Short(), err)
	}
	return nil
}
