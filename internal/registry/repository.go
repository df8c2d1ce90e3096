package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrNotFound is wrapped by errors that say a tag, manifest or blob is not there.
var ErrNotFound = errors.New("not found")

// Repository is one place that holds releases. Its methods may be called at once.
type Repository struct {
	Name string // for people: HOST/PATH or oci:DIR

	place       place
	connections int
	request     time.Duration // for a small request; 0: without limit
}

// place is what a registry's repository and a layout directory both can do.
// They hand on what they hold; checking is the Repository's work.
type place interface {
	// manifest reads the manifest that a tag or digest names, at most maxManifest bytes.
	manifest(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error)
	// resolve is manifest without its content where that is cheaper.
	resolve(ctx context.Context, reference string) (ocispec.Descriptor, error)
	// blob streams the bytes [off, off+n) of a blob; exactly n, or an error.
	blob(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error)
	exists(ctx context.Context, desc ocispec.Descriptor) (bool, error)
	// putBlob stores what open streams; it calls open again for each attempt.
	putBlob(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error
	// putManifest stores body, and names it by tag unless that is empty.
	putManifest(ctx context.Context, desc ocispec.Descriptor, body []byte, tag string) error
	tags(ctx context.Context) ([]string, error)
}

// Resolve finds what a tag (or a digest, "sha256:…") names.
func (r *Repository) Resolve(ctx context.Context, tag string) (ocispec.Descriptor, error) {
	desc, err := r.place.resolve(ctx, tag)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("resolving %q in %s: %w", tag, r.Name, err)
	}
	return desc, nil
}

// Manifest reads the manifest or index that a tag or digest names.
func (r *Repository) Manifest(ctx context.Context, tag string) (ocispec.Descriptor, []byte, error) {
	desc, body, err := r.place.manifest(ctx, tag)
	if err != nil {
		return ocispec.Descriptor{}, nil, fmt.Errorf("reading manifest %q in %s: %w", tag, r.Name, err)
	}
	return desc, body, nil
}

// Fetch streams a blob or manifest. Reading fails when the content is not
// exactly what desc says, so only a stream read to io.EOF may be believed.
func (r *Repository) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := checkDescriptor(desc); err != nil {
		return nil, err
	}
	if isManifest(desc.MediaType) {
		_, body, err := r.Manifest(ctx, desc.Digest.String())
		if err != nil {
			return nil, err
		}
		return newVerifier(io.NopCloser(bytes.NewReader(body)), desc), nil
	}
	rc, err := r.place.blob(ctx, desc, 0, desc.Size)
	if err != nil {
		return nil, fmt.Errorf("fetching %s from %s: %w", desc.Digest, r.Name, err)
	}
	return newVerifier(rc, desc), nil
}

// FetchBytes reads a small blob or manifest whole; desc may not be larger than limit.
func (r *Repository) FetchBytes(ctx context.Context, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	if desc.Size > limit {
		return nil, fmt.Errorf("fetching %s from %s: it has %d bytes, the limit is %d", desc.Digest, r.Name, desc.Size, limit)
	}
	if r.request > 0 && desc.Size <= maxDocument {
		var cancel context.CancelFunc
		ctx, cancel = withLimit(ctx, r.request)
		defer cancel()
	}
	rc, err := r.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	b, err := io.ReadAll(rc) // ends at desc.Size
	if err != nil {
		return nil, fmt.Errorf("fetching %s from %s: %w", desc.Digest, r.Name, err)
	}
	return b, nil
}

// FetchRange streams n bytes of a blob from off: exactly n, or reading fails.
// The bytes are not verified, as only the whole blob's digest is known.
func (r *Repository) FetchRange(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	if err := checkDescriptor(desc); err != nil {
		return nil, err
	}
	if off < 0 || n <= 0 || off > desc.Size-n {
		return nil, fmt.Errorf("fetching %s from %s: bytes %d+%d are not inside its %d", desc.Digest, r.Name, off, n, desc.Size)
	}
	rc, err := r.place.blob(ctx, desc, off, n)
	if err != nil {
		return nil, fmt.Errorf("fetching bytes %d+%d of %s from %s: %w", off, n, desc.Digest, r.Name, err)
	}
	return rc, nil
}

// Tags lists all tags, sorted. What cannot be a tag is left out: whoever lists
// tags prints them, and puts them into other names.
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	tags, err := r.place.tags(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the tags of %s: %w", r.Name, err)
	}
	tags = slices.DeleteFunc(tags, func(tag string) bool { return !isTag(tag) })
	slices.Sort(tags)
	return slices.Compact(tags), nil
}

// Tag makes tag name a manifest that is in the repository already.
func (r *Repository) Tag(ctx context.Context, desc ocispec.Descriptor, tag string) error {
	_, body, err := r.Manifest(ctx, desc.Digest.String())
	if err != nil {
		return err
	}
	if err := r.place.putManifest(ctx, desc, body, tag); err != nil {
		return fmt.Errorf("tagging %s as %q in %s: %w", desc.Digest, tag, r.Name, err)
	}
	return nil
}

// checkDescriptor refuses what would be unsafe to ask for or to name a file by.
func checkDescriptor(desc ocispec.Descriptor) error {
	if err := checkDigest(desc.Digest); err != nil {
		return err
	}
	if desc.Size < 0 {
		return fmt.Errorf("descriptor of %s: size %d is negative", desc.Digest, desc.Size)
	}
	return nil
}

func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", d, err)
	}
	if d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("digest %q: only sha256 is supported", d)
	}
	return nil
}
