package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrNoTrust is wrapped by the error for a repository that has no signed metadata.
var ErrNoTrust = errors.New("it is not signed")

// ErrNoFile is wrapped by the error for a file that the signed metadata does
// not have. It is fs.ErrNotExist as well.
var ErrNoFile = fmt.Errorf("no such file: %w", fs.ErrNotExist)

// Trust lists the signed metadata of a repository: The Update Framework's files,
// by their names. The list itself is signed by nobody, and neither it nor a
// file is believed here: whoever reads the files knows keys to check them with.
type Trust struct {
	Manifest ocispec.Descriptor // of the artifact

	repo  *Repository
	files map[string]ocispec.Descriptor
}

// metadataName is what a file of the metadata may be called: timestamp.json,
// 7.targets.json. It is a file name wherever the metadata is kept.
var metadataName = regexp.MustCompile(`^([1-9][0-9]{0,9}\.)?[a-z][a-z0-9-]{0,62}\.json$`)

// ReadTrust reads the list of the repository's signed metadata. It is one request.
// What is small and always looked at, timestamp and snapshot, comes with it.
func (r *Repository) ReadTrust(ctx context.Context) (*Trust, error) {
	trust, err := r.readTrust(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the signatures of %s: %w", r.Name, err)
	}
	return trust, nil
}

func (r *Repository) readTrust(ctx context.Context) (*Trust, error) {
	desc, body, err := r.place.manifest(ctx, TagTrust)
	if errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("%w: it has no tag %q (%w)", ErrNoTrust, TagTrust, err)
	}
	if err != nil {
		return nil, err
	}
	files, err := parseTrust(desc, body)
	if err != nil {
		return nil, err
	}
	return &Trust{Manifest: desc, repo: r, files: files}, nil
}

// parseTrust reads the manifest of the metadata: the files by their names.
func parseTrust(desc ocispec.Descriptor, body []byte) (map[string]ocispec.Descriptor, error) {
	if desc.MediaType != ocispec.MediaTypeImageManifest {
		return nil, fmt.Errorf("tag %q is not signed metadata but %.100q", TagTrust, desc.MediaType)
	}
	m, err := parseManifest(body)
	if err != nil {
		return nil, err
	}
	// A tool that copies and knows no artifact type may leave it out.
	if m.ArtifactType != TypeTrust && m.Annotations[annotationArtifact] != TypeTrust {
		return nil, fmt.Errorf("field %q of tag %q is %.100q, want %q", "artifactType", TagTrust, m.ArtifactType, TypeTrust)
	}
	files := make(map[string]ocispec.Descriptor)
	for i, layer := range m.Layers {
		if layer.MediaType != TypeMetadata {
			continue
		}
		name := layer.Annotations[ocispec.AnnotationTitle]
		_, twice := files[name]
		switch {
		case !metadataName.MatchString(name):
			err = fmt.Errorf("%.80q cannot be the name of a file of metadata", name)
		case twice:
			err = fmt.Errorf("file %q is listed twice", name)
		case layer.Size > maxMetadata:
			err = fmt.Errorf("file %q has %d bytes, the limit is %d", name, layer.Size, maxMetadata)
		case layer.Data != nil && (int64(len(layer.Data)) != layer.Size || digest.FromBytes(layer.Data) != layer.Digest):
			err = fmt.Errorf("file %q: field %q is not what its digest says", name, "data")
		}
		if err != nil {
			return nil, fmt.Errorf("field %q of tag %q: %w", fmt.Sprintf("layers[%d]", i), TagTrust, err)
		}
		files[name] = layer
	}
	return files, nil
}

// Names lists the files, sorted.
func (t *Trust) Names() []string { return slices.Sorted(maps.Keys(t.files)) }

// File reads a file of at most limit bytes. One that came with the list is no
// request more.
func (t *Trust) File(ctx context.Context, name string, limit int64) ([]byte, error) {
	desc, ok := t.files[name]
	switch {
	case !ok:
		return nil, fmt.Errorf("reading %q of the signatures of %s: %w", name, t.repo.Name, ErrNoFile)
	case desc.Size > limit:
		return nil, fmt.Errorf("reading %q of the signatures of %s: it has %d bytes, the limit is %d", name, t.repo.Name, desc.Size, limit)
	case desc.Data != nil:
		return slices.Clone(desc.Data), nil
	}
	b, err := t.repo.FetchBytes(ctx, desc, limit)
	if err != nil {
		return nil, fmt.Errorf("reading %q of the signatures: %w", name, err)
	}
	return b, nil
}
