package install

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/store"
)

// updatePath is where an image says where machines that nobody told otherwise
// look for updates (docs/recipe.md).
const updatePath = "/usr/lib/ashlar/update.toml"

// maxFile limits what is read of a file of the image, in bytes.
const maxFile = 4 << 20

// image is the image on the medium, for what an installation has to know of it.
type image struct {
	*tree.Tree
	dir string // the payload
}

func openImage(payload string, d verity.Digest, size int64) (*image, error) {
	f, err := os.Open(filepath.Join(payload, "images", d.String()))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, err := composefs.Read(f, size)
	if err != nil {
		return nil, fmt.Errorf("reading the image of the medium: %w", err)
	}
	return &image{t, payload}, nil
}

// inode returns what is at a path, or nil.
func (i *image) inode(path string) *tree.Node {
	n := i.Lookup(path)
	if n == nil {
		return nil
	}
	return n.Inode()
}

// file reads a regular file of the image; fs.ErrNotExist where there is none.
func (i *image) file(path string) ([]byte, error) {
	n := i.inode(path)
	switch {
	case n == nil || !n.IsRegular():
		return nil, fmt.Errorf("%q in the image: %w", path, fs.ErrNotExist)
	case n.Size > maxFile:
		return nil, fmt.Errorf("%q in the image has %d bytes, the limit is %d", path, n.Size, maxFile)
	case n.Digest.IsZero():
		return n.Inline, nil
	}
	f, err := os.Open(filepath.Join(i.dir, "objects", store.ObjectName(n.Digest)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := verity.NewHasher()
	b, err := io.ReadAll(io.TeeReader(io.LimitReader(f, maxFile+1), h))
	if err != nil {
		return nil, err
	}
	if h.Sum() != n.Digest {
		return nil, fmt.Errorf("%q in the image is not what its digest says: the medium is damaged", path)
	}
	return b, nil
}

// origin is what the image says about updates; the zero Origin where it says nothing.
func (i *image) origin() (store.Origin, error) {
	var o struct {
		Repository string `toml:"repository"`
		Channel    string `toml:"channel"`
	}
	b, err := i.file(updatePath)
	if errors.Is(err, fs.ErrNotExist) {
		return store.Origin{}, nil
	}
	if err == nil {
		err = toml.Unmarshal(b, &o)
	}
	if err != nil {
		return store.Origin{}, fmt.Errorf("reading %q of the image: %w", updatePath, err)
	}
	return store.Origin{Repository: o.Repository, Channel: o.Channel}, nil
}
