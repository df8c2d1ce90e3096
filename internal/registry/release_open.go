package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// The streams below give plain bytes. Like Fetch's they fail where the content
// is not what it should be, at the latest where io.EOF would be.

// OpenEROFS streams the root image, checked against its fs-verity digest.
func (rel *Release) OpenEROFS(ctx context.Context) (io.ReadCloser, error) {
	root := rel.Document.Root()
	sum := verity.NewHasher()
	return rel.openCompressed(ctx, rel.EROFS, root.Size, sum, func() error {
		if got := sum.Sum(); got != root.Digest {
			return fmt.Errorf("the image %s is damaged: its digest is %s", root.Digest.Short(), got)
		}
		return nil
	})
}

// OpenUKI streams the boot file.
func (rel *Release) OpenUKI(ctx context.Context) (io.ReadCloser, error) {
	sum := sha256.New()
	return rel.openCompressed(ctx, rel.UKI, rel.Document.UKI.Size, sum, func() error {
		if got := hex.EncodeToString(sum.Sum(nil)); got != rel.Document.UKI.SHA256 {
			return fmt.Errorf("the boot file is damaged: its sha256 is %s, and should be %s", got, rel.Document.UKI.SHA256)
		}
		return nil
	})
}

// OpenPack streams the whole layer.
func (rel *Release) OpenPack(ctx context.Context) (io.ReadCloser, error) {
	return rel.repo.Fetch(ctx, rel.Pack)
}

// OpenPackIndex streams the index of the pack.
func (rel *Release) OpenPackIndex(ctx context.Context) (io.ReadCloser, error) {
	return rel.repo.Fetch(ctx, rel.PackIndex)
}

// OpenSBOM streams the list of software, SPDX JSON.
func (rel *Release) OpenSBOM(ctx context.Context) (io.ReadCloser, error) {
	return rel.repo.Fetch(ctx, rel.SBOM)
}

// OpenLock streams the recipe.lock that the release was built from.
func (rel *Release) OpenLock(ctx context.Context) (io.ReadCloser, error) {
	return rel.repo.Fetch(ctx, rel.Lock)
}

// OpenMediumMap streams the map of the install medium.
func (rel *Release) OpenMediumMap(ctx context.Context) (io.ReadCloser, error) {
	return rel.openMedium(ctx, rel.MediumMap)
}

// OpenMediumBlocks streams the blocks of the install medium, all that it has in use.
// For some of them there is FetchRanges.
func (rel *Release) OpenMediumBlocks(ctx context.Context) (io.ReadCloser, error) {
	return rel.openMedium(ctx, rel.MediumBlocks)
}

// ErrNoMedium says that a release was built without an install medium.
var ErrNoMedium = errors.New("the release has no install medium: it was not built with --medium")

func (rel *Release) openMedium(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if rel.Document.Medium == nil {
		return nil, fmt.Errorf("%s: %w", rel.Document.ID, ErrNoMedium)
	}
	return rel.repo.Fetch(ctx, desc)
}

func (rel *Release) openCompressed(ctx context.Context, desc ocispec.Descriptor, size int64, sum io.Writer, check func() error) (io.ReadCloser, error) {
	rc, err := rel.repo.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(rc, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		rc.Close()
		return nil, err
	}
	return &plain{z: z, rc: rc, name: desc.Digest.String(), left: size, size: size, sum: sum, check: check}, nil
}

// plain decompresses a stream that must give exactly size bytes.
type plain struct {
	z          *zstd.Decoder
	rc         io.ReadCloser
	name       string
	size, left int64
	sum        io.Writer
	check      func() error // at the end
	err        error        // sticky
}

func (p *plain) Read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	if len(b) == 0 {
		return 0, nil
	}
	if p.left == 0 {
		p.err = p.finish()
		return 0, p.err
	}
	n, err := p.z.Read(b[:min(int64(len(b)), p.left)])
	p.sum.Write(b[:n])
	p.left -= int64(n)
	switch {
	case err == io.EOF && p.left > 0:
		p.err = fmt.Errorf("%s decompresses to %d bytes, and should to %d: %w", p.name, p.size-p.left, p.size, io.ErrUnexpectedEOF)
	case err != nil && err != io.EOF:
		p.err = fmt.Errorf("decompressing %s: %w", p.name, err)
	}
	return n, p.err
}

// finish sees that both streams end here. Reading the compressed one to its
// end is also what verifies it.
func (p *plain) finish() error {
	var one [1]byte
	if n, err := io.ReadFull(p.z, one[:]); n > 0 {
		return fmt.Errorf("%s decompresses to more than the %d bytes that the document says", p.name, p.size)
	} else if err != io.EOF {
		return fmt.Errorf("decompressing %s: %w", p.name, err)
	}
	if n, err := io.ReadFull(p.rc, one[:]); n > 0 {
		return fmt.Errorf("something follows the compressed content of %s", p.name)
	} else if err != io.EOF {
		return err
	}
	if err := p.check(); err != nil {
		return err
	}
	return io.EOF
}

func (p *plain) Close() error {
	p.z.Close()
	if p.err == nil {
		p.err = errors.New("reading a closed stream")
	}
	return p.rc.Close()
}
