package registry

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// blobWriter writes one blob and hashes it in the same pass.
type blobWriter struct {
	l    *Layout
	file *os.File // nil once committed or abandoned
	hash hash.Hash
	size int64
}

func (l *Layout) newBlob() (*blobWriter, error) {
	f, err := l.newPart()
	if err != nil {
		return nil, fmt.Errorf("writing a blob to %q: %w", l.dir, err)
	}
	return &blobWriter{l: l, file: f, hash: sha256.New()}, nil
}

func (w *blobWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	return n, err
}

func (w *blobWriter) digest() digest.Digest { return digest.NewDigest(digest.SHA256, w.hash) }

// commit gives the blob its name.
func (w *blobWriter) commit(mediaType string) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: w.digest(), Size: w.size}
	if err := finishPart(w.file, w.l.BlobPath(desc.Digest)); err != nil {
		return desc, fmt.Errorf("writing a blob to %q: %w", w.l.dir, err)
	}
	err := w.file.Close()
	w.file = nil
	return desc, err
}

// abandon removes what was not committed.
func (w *blobWriter) abandon() {
	if w.file != nil {
		w.file.Close()
		os.Remove(w.file.Name())
		w.file = nil
	}
}
