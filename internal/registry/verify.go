package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// verifier passes on exactly desc.Size bytes, then gives io.EOF only if they
// have desc.Digest and the source ends there too.
type verifier struct {
	io.Closer
	src  io.Reader
	desc ocispec.Descriptor
	hash hash.Hash
	left int64
	err  error // sticky
}

func newVerifier(rc io.ReadCloser, desc ocispec.Descriptor) *verifier {
	return &verifier{Closer: rc, src: rc, desc: desc, hash: sha256.New(), left: desc.Size}
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	if v.left == 0 {
		v.err = v.finish()
		return 0, v.err
	}
	n, err := v.src.Read(p[:min(int64(len(p)), v.left)])
	v.hash.Write(p[:n])
	v.left -= int64(n)
	switch {
	case err == io.EOF && v.left > 0:
		v.err = fmt.Errorf("content of %s ends %d bytes early: %w", v.desc.Digest, v.left, io.ErrUnexpectedEOF)
	case err == io.EOF || v.left == 0 && err == nil:
		// The digest is looked at by the Read that finds the end.
	case err != nil:
		v.err = err
	}
	return n, v.err
}

func (v *verifier) finish() error {
	var one [1]byte
	if n, err := io.ReadFull(v.src, one[:]); n > 0 {
		return fmt.Errorf("content of %s is longer than the %d bytes that its descriptor says", v.desc.Digest, v.desc.Size)
	} else if err != io.EOF {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(v.hash.Sum(nil)); got != v.desc.Digest.String() {
		return fmt.Errorf("content of %s is damaged: its digest is %s", v.desc.Digest, got)
	}
	return io.EOF
}
