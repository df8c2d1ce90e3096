package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/limited"
)

// Names in an OCI image layout.
const (
	layoutFile  = ocispec.ImageLayoutFile
	indexFile   = ocispec.ImageIndexFile
	blobsDir    = ocispec.ImageBlobsDir + "/sha256"
	layoutText  = `{"imageLayoutVersion":"1.0.0"}`
	maxTopIndex = maxManifest
)

// Layout is a directory in OCI image layout: oci-layout, index.json with the
// tags, and blobs/sha256/HEX. Blobs are written under a temporary name and
// renamed, index.json last, so that a reader never sees half a release.
type Layout struct {
	dir string
}

// OpenLayout opens an existing layout.
func OpenLayout(dir string) (*Layout, error) {
	b, err := limited.File(filepath.Join(dir, layoutFile), 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("opening %q: it is not an OCI layout directory: it has no file %q", dir, layoutFile)
	}
	if err != nil {
		return nil, fmt.Errorf("opening OCI layout: %w", err)
	}
	var said ocispec.ImageLayout
	if err := json.Unmarshal(b, &said); err != nil {
		return nil, fmt.Errorf("reading %q: %w", filepath.Join(dir, layoutFile), err)
	}
	if said.Version != ocispec.ImageLayoutVersion {
		return nil, fmt.Errorf("reading %q: field %q is %.40q, only %q is known", filepath.Join(dir, layoutFile), "imageLayoutVersion", said.Version, ocispec.ImageLayoutVersion)
	}
	return &Layout{dir: dir}, nil
}

// Dir is the layout's directory.
func (l *Layout) Dir() string { return l.dir }

// Repository gives the layout as a repository.
func (l *Layout) Repository() *Repository {
	return &Repository{Name: "oci:" + l.dir, place: l, connections: defaultConnections}
}

// BlobPath is where the blob of a digest is or would be. d must be a sha256 digest.
func (l *Layout) BlobPath(d digest.Digest) string {
	return filepath.Join(l.dir, blobsDir, d.Encoded())
}

// index reads index.json; a layout without one is empty.
func (l *Layout) index() (ocispec.Index, error) {
	name := filepath.Join(l.dir, indexFile)
	b, err := limited.File(name, maxTopIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return emptyIndex(), nil
	}
	if err != nil {
		return ocispec.Index{}, err
	}
	index, err := parseTopIndex(b)
	if err != nil {
		return ocispec.Index{}, fmt.Errorf("reading %q: %w", name, err)
	}
	return index, nil
}

func refName(desc ocispec.Descriptor) string { return desc.Annotations[ocispec.AnnotationRefName] }

func (l *Layout) resolve(_ context.Context, reference string) (ocispec.Descriptor, error) {
	if want := digestOnly(reference); want != "" {
		return l.manifestByDigest(digest.Digest(want))
	}
	index, err := l.index()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, desc := range index.Manifests {
		if refName(desc) == reference && reference != "" {
			return plainDescriptor(desc), nil
		}
	}
	return ocispec.Descriptor{}, fmt.Errorf("%w: %q lists no such tag", ErrNotFound, filepath.Join(l.dir, indexFile))
}

// manifestByDigest describes a manifest that may have no tag.
func (l *Layout) manifestByDigest(d digest.Digest) (ocispec.Descriptor, error) {
	if err := checkDigest(d); err != nil {
		return ocispec.Descriptor{}, err
	}
	b, err := limited.File(l.BlobPath(d), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return ocispec.Descriptor{}, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	t := mediaType(nil, b)
	if !isManifest(t) {
		return ocispec.Descriptor{}, fmt.Errorf("%w: %s is not a manifest", ErrNotFound, d)
	}
	return ocispec.Descriptor{MediaType: t, Digest: d, Size: int64(len(b))}, nil
}

func (l *Layout) manifest(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error) {
	desc, err := l.resolve(ctx, reference)
	if err != nil {
		return desc, nil, err
	}
	b, err := limited.File(l.BlobPath(desc.Digest), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return desc, nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if err != nil {
		return desc, nil, err
	}
	if got := digest.FromBytes(b); got != desc.Digest || int64(len(b)) != desc.Size {
		return desc, nil, fmt.Errorf("%q is damaged: its digest is %s", l.BlobPath(desc.Digest), got)
	}
	return desc, b, nil
}

func (l *Layout) blob(_ context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	f, err := openBlob(l.BlobPath(desc.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != desc.Size {
		err = fmt.Errorf("%q has %d bytes, and should have %d", f.Name(), info.Size(), desc.Size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &section{SectionReader: io.NewSectionReader(f, off, n), file: f}, nil
}

// section is a part of an open file.
type section struct {
	*io.SectionReader
	file *os.File
}

func (s *section) Close() error { return s.file.Close() }

func (l *Layout) exists(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	info, err := os.Lstat(l.BlobPath(desc.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Mode().IsRegular() && info.Size() == desc.Size, err
}

func (l *Layout) tags(context.Context) ([]string, error) {
	index, err := l.index()
	if err != nil {
		return nil, err
	}
	var tags []string
	for _, desc := range index.Manifests {
		if name := refName(desc); name != "" {
			tags = append(tags, name)
		}
	}
	return tags, nil
}

// openRegular opens a file that must be a regular one: a pipe would wait for ever.
func openRegular(name string) (*os.File, error) { return openPlain(name, 0) }

// openBlob is openRegular for what a layout holds under a digest: a link would
// let a layout from elsewhere name any file of this machine.
func openBlob(name string) (*os.File, error) { return openPlain(name, unix.O_NOFOLLOW) }

func openPlain(name string, flags int) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|flags, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%q is not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
