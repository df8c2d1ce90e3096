package registry

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ashlar-os/ashlar/internal/limited"
)

// catalog remembers which manifests refer to which, for as long as index.json
// stays the same file.
type catalog struct {
	mu     sync.Mutex
	known  map[digest.Digest][]ocispec.Descriptor // by subject
	seenAt stamp
}

// stamp tells one index.json from the next: it is always replaced by a rename.
type stamp struct {
	modified time.Time
	size     int64
	info     os.FileInfo
}

func (s stamp) same(t stamp) bool {
	if s.info == nil || t.info == nil {
		return false
	}
	return os.SameFile(s.info, t.info) && s.size == t.size && s.modified.Equal(t.modified)
}

func (c *catalog) referrers(l *Layout) (map[digest.Digest][]ocispec.Descriptor, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(filepath.Join(l.dir, indexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	now := stamp{modified: info.ModTime(), size: info.Size(), info: info}
	if c.seenAt.same(now) {
		return c.known, nil
	}
	index, err := l.index()
	if err != nil {
		return nil, err
	}
	found := finder{layout: l, bySubject: map[digest.Digest][]ocispec.Descriptor{}, seen: map[digest.Digest]bool{}}
	for _, desc := range index.Manifests {
		found.visit(desc, 0)
	}
	c.known, c.seenAt = found.bySubject, now
	return c.known, nil
}

// finder walks manifests. What it cannot read refers to nothing.
type finder struct {
	layout    *Layout
	bySubject map[digest.Digest][]ocispec.Descriptor
	seen      map[digest.Digest]bool
}

func (f *finder) visit(desc ocispec.Descriptor, depth int) {
	if f.seen[desc.Digest] || depth > maxDepth || checkDigest(desc.Digest) != nil {
		return
	}
	f.seen[desc.Digest] = true
	b, err := limited.File(f.layout.BlobPath(desc.Digest), maxManifest)
	if err != nil {
		return
	}
	if isIndex(desc.MediaType) {
		if index, err := parseIndex(b); err == nil {
			for _, child := range index.Manifests {
				f.visit(child, depth+1)
			}
		}
		return
	}
	m, err := parseManifest(b)
	if err != nil || m.Subject == nil {
		return
	}
	artifact := plainDescriptor(desc)
	artifact.Annotations = m.Annotations
	artifact.ArtifactType = m.ArtifactType
	if artifact.ArtifactType == "" {
		artifact.ArtifactType = m.Config.MediaType
	}
	f.bySubject[m.Subject.Digest] = append(f.bySubject[m.Subject.Digest], artifact)
}
