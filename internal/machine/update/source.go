package update

import (
	"context"
	"fmt"
	"io"

	"github.com/ashlar-os/ashlar/internal/image/pack"
	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// Source is where the files of one release are taken from: a repository, or a
// medium. It is believed nothing: the document is one that was signed, the image and the boot
// file are compared with it, and objects are measured when they are sealed.
type Source interface {
	Document() Document
	// OpenImage and OpenBootFile end with an error where what was read is not
	// what the document names.
	OpenImage(ctx context.Context) (io.ReadCloser, error)
	OpenBootFile(ctx context.Context) (io.ReadCloser, error)
	// Objects works out how to read those that are wanted, of all that the
	// image names, each once.
	Objects(ctx context.Context, all []tree.Object, wanted func(verity.Digest) bool) (Pieces, error)
}

// Document is a release document as it was published.
type Document struct {
	*release.Document
	Bytes  []byte
	Digest string // "sha256:…" of Bytes
}

// Pieces are objects, in parts that can be read one without the other.
type Pieces interface {
	Len() int
	Length(i int) int64 // bytes to read for piece i
	// Fetch reads the pieces from up to, without, to, and puts each object that is
	// wanted among them, some at the same time. It reports the bytes that it read.
	Fetch(ctx context.Context, from, to int, p progress.Reporter, put func(tree.Object, io.Reader) error) error
}

// FromRegistry takes a release from the repository that it was read from.
func FromRegistry(rel *registry.Release) Source { return registrySource{rel} }

type registrySource struct{ rel *registry.Release }

func (s registrySource) Document() Document {
	return Document{s.rel.Document, s.rel.DocumentBytes, s.rel.DocumentDigest}
}

func (s registrySource) OpenImage(ctx context.Context) (io.ReadCloser, error) {
	return s.rel.OpenEROFS(ctx)
}

func (s registrySource) OpenBootFile(ctx context.Context) (io.ReadCloser, error) {
	return s.rel.OpenUKI(ctx)
}

// Objects reads the pack's index: ranges of the pack are what is fetched.
func (s registrySource) Objects(ctx context.Context, all []tree.Object, wanted func(verity.Digest) bool) (Pieces, error) {
	index, err := readIndex(ctx, s.rel, all)
	if err != nil {
		return nil, err
	}
	return &packRanges{s.rel, index.Plan(wanted, pack.PlanOptions{})}, nil
}

func readIndex(ctx context.Context, rel *registry.Release, objects []tree.Object) (*pack.Index, error) {
	r, err := rel.OpenPackIndex(ctx)
	if err != nil {
		return nil, fmt.Errorf("fetching the pack's index: %w", err)
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, pack.MaxIndex+1))
	if err != nil {
		return nil, fmt.Errorf("fetching the pack's index: %w", err)
	}
	index, err := pack.DecodeIndex(data, objects, rel.Document.Pack.Size)
	if err != nil {
		return nil, fmt.Errorf("reading the pack's index: %w", err)
	}
	return index, nil
}

// packRanges are parts of a release's pack.
type packRanges struct {
	rel    *registry.Release
	ranges []pack.Range
}

func (p *packRanges) Len() int           { return len(p.ranges) }
func (p *packRanges) Length(i int) int64 { return p.ranges[i].Length }

func (p *packRanges) Fetch(ctx context.Context, from, to int, report progress.Reporter, put func(tree.Object, io.Reader) error) error {
	ranges := make([]registry.Range, to-from)
	for i, r := range p.ranges[from:to] {
		ranges[i] = registry.Range{Offset: r.Offset, Length: r.Length}
	}
	return p.rel.Repository().FetchRanges(ctx, p.rel.Pack, ranges, 0, func(i int, r io.Reader) error {
		return pack.Extract(progress.Reader(r, report), p.ranges[from+i], put)
	})
}
