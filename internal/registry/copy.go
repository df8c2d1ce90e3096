package registry

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/ashlar-os/ashlar/internal/progress"
)

// CopyResult says what a copy did.
type CopyResult struct {
	Descriptor ocispec.Descriptor // what newTag names now
	Blobs      int                // copied
	Present    int                // were there already
	Bytes      int64              // of the copied blobs
}

// Copy copies what tag names in src, and everything that belongs to it, to
// dst, and names it newTag there ("" for no tag). Blobs go first, several at
// once, then manifests from the leaves up, the tag last: a reader of dst never
// finds something that is not whole. What dst has is not sent again.
//
// At the very end the signed metadata of src follows, where dst has none, or
// has an older state of the same.
func Copy(ctx context.Context, src, dst *Repository, tag, newTag string, report progress.Reporter) (CopyResult, error) {
	result, err := copyTag(ctx, src, dst, tag, newTag, report)
	if err == nil {
		err = copyTrust(ctx, src, dst)
	}
	if err != nil {
		return result, fmt.Errorf("copying %q from %s to %s: %w", tag, src.Name, dst.Name, err)
	}
	return result, nil
}

func copyTag(ctx context.Context, src, dst *Repository, tag, newTag string, report progress.Reporter) (result CopyResult, err error) {
	if report == nil {
		report = progress.None
	}
	root, body, err := src.place.manifest(ctx, tag)
	if err != nil {
		return result, err
	}
	c := content{src: src, seen: map[digest.Digest]bool{}}
	if err := c.add(ctx, root, body, 0); err != nil {
		return result, err
	}

	missing := make([]bool, len(c.blobs))
	if err := each(ctx, dst.connections, len(c.blobs), func(ctx context.Context, i int) error {
		there, err := dst.place.exists(ctx, c.blobs[i])
		missing[i] = !there
		return err
	}); err != nil {
		return result, err
	}
	for i, blob := range c.blobs {
		if missing[i] {
			result.Blobs++
			result.Bytes += blob.Size
		} else {
			result.Present++
		}
	}
	report.Stage("copying to "+dst.Name, result.Bytes, progress.Bytes)
	if err := each(ctx, dst.connections, len(c.blobs), func(ctx context.Context, i int) error {
		if !missing[i] {
			return nil
		}
		return copyBlob(ctx, src, dst, c.blobs[i], report)
	}); err != nil {
		return result, err
	}

	for i, m := range c.manifests { // the root is the last
		name := ""
		if i == len(c.manifests)-1 {
			name = newTag
		} else if there, err := dst.place.exists(ctx, m.desc); err != nil {
			return result, err
		} else if there {
			continue
		}
		if err := dst.place.putManifest(ctx, m.desc, m.body, name); err != nil {
			return result, err
		}
	}
	result.Descriptor = root
	return result, nil
}

func copyBlob(ctx context.Context, src, dst *Repository, blob ocispec.Descriptor, report progress.Reporter) error {
	var sent atomic.Int64 // of this attempt
	err := dst.place.putBlob(ctx, blob, func() (io.ReadCloser, error) {
		report.Add(-sent.Swap(0)) // an attempt that failed brought nothing
		rc, err := src.Fetch(ctx, blob)
		if err != nil {
			return nil, err
		}
		return &sending{ReadCloser: rc, sent: &sent, report: report}, nil
	})
	if err != nil {
		return fmt.Errorf("blob %s: %w", blob.Digest, err)
	}
	return nil
}

// sending reports what is read from it.
type sending struct {
	io.ReadCloser
	sent   *atomic.Int64
	report progress.Reporter
}

func (s *sending) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	s.sent.Add(int64(n))
	s.report.Add(int64(n))
	return n, err
}

// each calls do for 0 … n-1, at most limit at once.
func each(ctx context.Context, limit, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(limit, 1))
	for i := range n {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return do(ctx, i)
		})
	}
	return group.Wait()
}

// content is everything below a manifest: blobs, and manifests children first.
type content struct {
	src       *Repository
	seen      map[digest.Digest]bool
	blobs     []ocispec.Descriptor
	manifests []storedManifest
	fetched   int
	size      int64 // of what was fetched, bytes
}

type storedManifest struct {
	desc ocispec.Descriptor
	body []byte
}

func (c *content) add(ctx context.Context, desc ocispec.Descriptor, body []byte, depth int) error {
	if c.seen[desc.Digest] {
		return nil
	}
	c.seen[desc.Digest] = true
	c.size += int64(len(body))
	switch {
	case depth > maxDepth:
		return fmt.Errorf("manifest %s: indexes are nested more than %d deep", desc.Digest, maxDepth)
	case isIndex(desc.MediaType):
		index, err := parseIndex(body)
		if err != nil {
			return fmt.Errorf("manifest %s: %w", desc.Digest, err)
		}
		for _, child := range index.Manifests {
			if err := c.fetch(ctx, child, depth+1); err != nil {
				return err
			}
		}
	case isManifest(desc.MediaType):
		m, err := parseManifest(body)
		if err != nil {
			return fmt.Errorf("manifest %s: %w", desc.Digest, err)
		}
		if m.Subject != nil {
			if err := c.fetch(ctx, *m.Subject, depth+1); err != nil {
				return err
			}
		}
		for _, blob := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
			if !c.seen[blob.Digest] {
				c.seen[blob.Digest] = true
				c.blobs = append(c.blobs, plainDescriptor(blob))
			}
		}
	default:
		return fmt.Errorf("manifest %s: media type %.100q is not known", desc.Digest, desc.MediaType)
	}
	c.manifests = append(c.manifests, storedManifest{desc: plainDescriptor(desc), body: body})
	return nil
}

func (c *content) fetch(ctx context.Context, desc ocispec.Descriptor, depth int) error {
	if c.seen[desc.Digest] {
		return nil
	}
	if !isManifest(desc.MediaType) {
		return fmt.Errorf("manifest %s: media type %.100q is not known", desc.Digest, desc.MediaType)
	}
	if c.fetched++; c.fetched >= maxCopyManifests {
		return fmt.Errorf("it has more than %d manifests, which is the limit", maxCopyManifests)
	}
	if c.size+desc.Size > maxCopyBytes {
		return fmt.Errorf("its manifests have more than %d bytes, which is the limit", maxCopyBytes)
	}
	body, err := c.src.FetchBytes(ctx, desc, maxManifest)
	if err != nil {
		return err
	}
	return c.add(ctx, desc, body, depth)
}
