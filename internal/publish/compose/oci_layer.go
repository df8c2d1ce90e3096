package compose

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits on one layer. A layer of a few megabytes can unpack to anything, and
// a sparse entry of a few bytes can claim to.
const (
	maxLayerSize   = 64 << 30 // bytes of the blob, of its tar, and of the contents in it
	maxLayerWindow = 128 << 20
)

// applyBlob fetches one layer and applies it. The digest of the blob and the
// diffID of the tar inside are both verified; until then the tree is worth
// nothing, so the caller throws it away on any error.
func applyBlob(ctx context.Context, source imageSource, t *layeredTree, desc ocispec.Descriptor, diffID digest.Digest) error {
	if desc.Size < 1 || desc.Size > maxLayerSize {
		return fmt.Errorf("it has %d bytes, want 1 to %d", desc.Size, int64(maxLayerSize))
	}
	rc, err := source.Fetch(ctx, desc)
	if err != nil {
		return err
	}
	defer rc.Close()
	blob, err := newCheckedReader(rc, desc.Digest, desc.Size)
	if err != nil {
		return err
	}
	plain, err := decompress(blob, desc.MediaType)
	if err != nil {
		return err
	}
	defer plain.Close()
	tar, err := newCheckedReader(plain, diffID, -1)
	if err != nil {
		return fmt.Errorf("diff_id: %w", err)
	}
	buffered := bufio.NewReaderSize(tar, 1<<16) // archive/tar asks for 512 bytes at a time
	if err := t.apply(ctx, buffered); err != nil {
		return err
	}
	// Both digests are of everything, so read what follows the tar's end too.
	if _, err := io.Copy(io.Discard, buffered); err != nil {
		return fmt.Errorf("unpacked: %w", err)
	}
	_, err = io.Copy(io.Discard, blob)
	return err
}

// decompress undoes what the media type names. What it says is believed and
// not guessed at: a layer that lies is damaged.
func decompress(r io.Reader, mediaType string) (io.ReadCloser, error) {
	base, compression, _ := strings.Cut(mediaType, "+")
	if suffix, ok := strings.CutPrefix(mediaType, dockerLayer); ok {
		base, compression = dockerLayer, strings.TrimPrefix(suffix, ".")
	}
	switch base {
	case ocispec.MediaTypeImageLayer, dockerLayer, "application/vnd.oci.image.layer.nondistributable.v1.tar":
	default:
		return nil, fmt.Errorf("its media type %q is none of a layer", mediaType)
	}
	switch compression {
	case "":
		return io.NopCloser(r), nil
	case "gzip":
		return gzip.NewReader(bufio.NewReaderSize(r, 1<<16))
	case "zstd":
		dec, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxLayerWindow))
		if err != nil {
			return nil, err
		}
		return dec.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("its media type %q has a compression that is not known", mediaType)
}

// checkedReader gives io.EOF only when what was read has the digest, and the
// size where that is known (not -1).
type checkedReader struct {
	r    io.Reader
	want digest.Digest
	size int64
	hash hash.Hash
	read int64
}

func newCheckedReader(r io.Reader, want digest.Digest, size int64) (*checkedReader, error) {
	if err := want.Validate(); err != nil {
		return nil, fmt.Errorf("digest %.100q: %w", want, err)
	}
	if want.Algorithm() != digest.SHA256 && want.Algorithm() != digest.SHA512 {
		return nil, fmt.Errorf("digest %.100q: only sha256 and sha512 are supported", want)
	}
	return &checkedReader{r: r, want: want, size: size, hash: want.Algorithm().Hash()}, nil
}

func (c *checkedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.hash.Write(p[:n])
	c.read += int64(n)
	if limit := c.size; c.read > maxLayerSize || limit >= 0 && c.read > limit {
		if limit < 0 {
			limit = maxLayerSize
		}
		return 0, fmt.Errorf("it is longer than %d bytes", limit)
	}
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if c.size >= 0 && c.read < c.size {
		return n, fmt.Errorf("it ends after %d of %d bytes: %w", c.read, c.size, io.ErrUnexpectedEOF)
	}
	if got := digest.NewDigest(c.want.Algorithm(), c.hash); got != c.want {
		return n, fmt.Errorf("its digest is %s, want %s", got, c.want)
	}
	return n, io.EOF
}
