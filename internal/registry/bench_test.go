package registry

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// BenchmarkFetchRanges reads a blob of 256 MB in 100 ranges over loopback, as a fresh pull does.
func BenchmarkFetchRanges(b *testing.B) {
	const size, parts = 256 << 20, 100
	layout, err := CreateLayout(filepath.Join(b.TempDir(), "out"))
	must(b, err)
	path := filepath.Join(b.TempDir(), "blob")
	must(b, os.WriteFile(path, nil, 0o600))
	must(b, os.Truncate(path, size))
	h := sha256.New()
	io.CopyN(h, zeros{}, size)
	desc, err := layout.PutBlobFile(ocispec.MediaTypeImageLayerZstd, path, digest.NewDigest(digest.SHA256, h))
	must(b, err)
	_, address := startServer(b, layout.Dir(), ServerOptions{})
	repo := openTest(b, address+"/a")
	ranges := make([]Range, parts)
	for i := range ranges {
		ranges[i] = Range{int64(i) * (size / parts), size / parts}
	}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		must(b, repo.FetchRanges(context.Background(), desc, ranges, 0, func(_ int, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		}))
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
