package diskimage

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// updatePath is what a recipe's [update] becomes in the image: where machines
// that nobody told otherwise look for updates (docs/recipe.md).
const updatePath = "/usr/lib/ashlar/update.toml"

// maxUpdate limits that file, in bytes.
const maxUpdate = 64 << 10

// readOrigin returns what the image says about updates; the zero Origin where
// it says nothing.
func readOrigin(t *tree.Tree, objects string) (Origin, error) {
	var o struct {
		Repository string `toml:"repository"`
		Channel    string `toml:"channel"`
	}
	n := t.Lookup(updatePath)
	if n == nil || n.Inode().Mode&tree.TypeMask != tree.TypeRegular {
		return Origin{}, nil
	}
	n = n.Inode()
	if n.Size > maxUpdate {
		return Origin{}, fmt.Errorf("%q in the image has %d bytes, the limit is %d", updatePath, n.Size, maxUpdate)
	}
	var content io.Reader = bytes.NewReader(n.Inline)
	if !n.Digest.IsZero() {
		f, err := os.Open(filepath.Join(objects, objectName(n.Digest)))
		if err != nil {
			return Origin{}, err
		}
		defer f.Close()
		content = f
	}
	if err := toml.NewDecoder(content).Decode(&o); err != nil {
		return Origin{}, fmt.Errorf("%q in the image: %w", updatePath, err)
	}
	return Origin{Repository: o.Repository, Channel: o.Channel}, nil
}
