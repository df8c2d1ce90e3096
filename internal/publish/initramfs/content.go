package initramfs

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/limited"
	"github.com/ashlar-os/ashlar/internal/program"
)

// maxModule bounds a module, in bytes: the largest of Debian's has 20 MB with
// its debug information stripped.
const maxModule = 128 << 20

// openNode opens the content of a regular file of the tree.
func openNode(n *tree.Node) (io.ReadCloser, error) {
	n = n.Inode()
	switch {
	case !n.IsRegular():
		return nil, fmt.Errorf("it is not a regular file")
	case n.Source != "":
		return os.Open(n.Source)
	case uint64(len(n.Inline)) == n.Size:
		return io.NopCloser(bytes.NewReader(n.Inline)), nil
	}
	return nil, fmt.Errorf("the tree does not say where its content is")
}

// readNode reads a regular file of the tree, of at most limit bytes.
func readNode(n *tree.Node, limit int64) ([]byte, error) {
	r, err := openNode(n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return limited.All(r, limit)
}

// readModule reads a module and undoes its compression, as its name says.
func readModule(ctx context.Context, name string, n *tree.Node) ([]byte, error) {
	r, err := openNode(n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := decompress(ctx, name, r)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(b, []byte("\x7fELF")) {
		return nil, fmt.Errorf("it is no ELF object: it starts with %.4q", b)
	}
	return b, nil
}

func decompress(ctx context.Context, name string, r io.Reader) ([]byte, error) {
	switch {
	case strings.HasSuffix(name, ".xz"):
		out := &limitedBuffer{limit: maxModule}
		_, err := program.Run(ctx, program.Command{Args: []string{"xz", "-dc"}, Stdin: r, Stdout: out})
		return out.data, err
	case strings.HasSuffix(name, ".zst"):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxModule))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		return limited.All(z, maxModule)
	case strings.HasSuffix(name, ".gz"):
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		return limited.All(z, maxModule)
	}
	return limited.All(r, maxModule)
}

// limitedBuffer is a buffer that refuses to grow past limit bytes.
type limitedBuffer struct {
	data  []byte
	limit int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if len(b.data)+len(p) > b.limit {
		return 0, fmt.Errorf("it is longer than %d bytes", b.limit)
	}
	b.data = append(b.data, p...)
	return len(p), nil
}
