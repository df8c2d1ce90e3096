package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/limited"
)

// documentFile is the release document of a deployment, as it was published:
// what its files have to be, for whoever looks at them later.
const documentFile = "release.json"

// Document reads the release document of a deployment, which has to be the one
// that deployment.json names; fs.ErrNotExist when there is none.
func (s *Store) Document(dep *Deployment) (*release.Document, error) {
	path := filepath.Join(s.DeploymentPath(dep.Image), documentFile)
	b, err := limited.File(path, release.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("reading the release document of %s: %w", dep.Image.Short(), err)
	}
	sum := sha256.Sum256(b)
	if got := "sha256:" + hex.EncodeToString(sum[:]); got != dep.Release {
		return nil, fmt.Errorf("reading %q: it is %s, and not %s, which %q names", path, got, dep.Release, deploymentFile)
	}
	doc, err := release.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", path, err)
	}
	if doc.Root().Digest != dep.Image {
		return nil, fmt.Errorf("reading %q: it is a release of image %s, and not of %s", path, doc.Root().Digest, dep.Image)
	}
	return doc, nil
}

// WriteDocument writes the release document of a deployment that is there.
func (s *Store) WriteDocument(d verity.Digest, document []byte) error {
	if err := WriteFileAtomic(filepath.Join(s.DeploymentPath(d), documentFile), document, 0o644); err != nil {
		return fmt.Errorf("writing the release document of %s: %w", d.Short(), err)
	}
	return nil
}
