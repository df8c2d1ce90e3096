package compose

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// inlineMax is the size up to which a file's content is kept in the image
// itself (DESIGN §4), in bytes.
const inlineMax = 64

// spool keeps the contents of a tree being composed, each once, as
// <dir>/ab/cdef… by fs-verity digest. It is scratch space: nothing is synced,
// and whoever gave the directory removes it.
type spool struct {
	dir     string
	claimed sync.Map // verity.Digest → struct{}: stored, or being stored
}

func newSpool(dir string) (*spool, error) {
	for i := range 256 {
		if err := os.MkdirAll(filepath.Join(dir, fmt.Sprintf("%02x", i)), 0o755); err != nil {
			return nil, fmt.Errorf("making the spool: %w", err)
		}
	}
	return &spool{dir: dir}, nil
}

// payload is where the object of that digest is, below objects/.
func payload(d verity.Digest) string {
	s := d.String()
	return s[:2] + "/" + s[2:]
}

// fill makes b the content of the regular file n.
func (s *spool) fill(n *tree.Node, b []byte) error {
	n.Size = uint64(len(b))
	n.Inline, n.Digest, n.Payload, n.Source = nil, verity.Digest{}, "", ""
	if len(b) <= inlineMax {
		n.Inline = bytes.Clone(b)
		return nil
	}
	d := verity.SumBytes(b)
	s.name(n, d)
	if _, dup := s.claimed.LoadOrStore(d, struct{}{}); dup {
		return nil
	}
	if err := os.WriteFile(n.Source, b, 0o644); err != nil {
		return fmt.Errorf("spooling: %w", err)
	}
	return nil
}

// fillReader is fill for content that is too large for memory.
func (s *spool) fillReader(n *tree.Node, r io.Reader) (err error) {
	tmp, err := os.CreateTemp(s.dir, "new-")
	if err != nil {
		return fmt.Errorf("spooling: %w", err)
	}
	defer func() { err = errors.Join(err, tmp.Close()) }()
	h := verity.NewHasher()
	size, err := io.Copy(io.MultiWriter(tmp, h), r)
	if err != nil {
		os.Remove(tmp.Name())
		return fmt.Errorf("spooling: %w", err)
	}
	if size <= inlineMax {
		defer os.Remove(tmp.Name())
		b := make([]byte, size)
		if _, err := tmp.ReadAt(b, 0); err != nil && err != io.EOF {
			return err
		}
		return s.fill(n, b)
	}
	n.Size, n.Inline = uint64(size), nil
	d := h.Sum()
	s.name(n, d)
	if _, dup := s.claimed.LoadOrStore(d, struct{}{}); dup {
		return os.Remove(tmp.Name())
	}
	return os.Rename(tmp.Name(), n.Source)
}

func (s *spool) name(n *tree.Node, d verity.Digest) {
	n.Digest, n.Payload = d, payload(d)
	n.Source = filepath.Join(s.dir, n.Payload)
}

// content reads the content of the regular file n, at most limit bytes of it.
func (s *spool) content(n *tree.Node, limit int64) ([]byte, error) {
	n = n.Inode()
	if n.Digest.IsZero() {
		return n.Inline, nil
	}
	if int64(n.Size) > limit {
		return nil, fmt.Errorf("%q has %d bytes, more than the %d expected", n.Name, n.Size, limit)
	}
	return os.ReadFile(n.Source)
}

// open gives the content of the regular file n.
func (s *spool) open(n *tree.Node) (io.ReadCloser, error) {
	n = n.Inode()
	if n.Digest.IsZero() {
		return io.NopCloser(bytes.NewReader(n.Inline)), nil
	}
	return os.Open(n.Source)
}
