package compose

import (
	"fmt"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/limited"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// rootPath is where machines look for the keys that they believe.
const rootPath = "/usr/lib/ashlar/trust/root.json"

// maxRoot is how large the recipe's root may be, in bytes.
const maxRoot = 512 << 10

// addTrust puts the publisher's root into the image. A file that is none would
// make machines that can never be updated, so it is looked at here.
func (b *builder) addTrust(t *tree.Tree) error {
	path := b.o.Recipe.Trust.Root
	if path == "" {
		return nil
	}
	data, err := limited.File(path, maxRoot)
	if err == nil {
		err = trust.CheckRoot(data)
	}
	if err != nil {
		return fmt.Errorf("trust.root %q: %w", path, err)
	}
	return b.putFile(t, rootPath, 0o644, data)
}
