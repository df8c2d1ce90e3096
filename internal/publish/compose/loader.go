package compose

import (
	"fmt"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// loaderPath is where the package systemd-boot-efi keeps the loader. Beside it,
// with ".signed" behind its name, bootctl(1) and "ashlar disk" look for one that
// firmware under Secure Boot starts.
const (
	loaderPath       = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
	signedLoaderPath = loaderPath + ".signed"

	maxLoader = 16 << 20 // bytes; Debian's has 120 KB
)

// signLoader puts the signed loader into the tree. One that a distribution
// signed is replaced: these machines know the publisher's keys.
func (b *builder) signLoader(t *tree.Tree) error {
	if b.o.Loader == nil {
		return nil
	}
	n := followFile(t, loaderPath)
	if n == nil {
		return fmt.Errorf("the tree has no %q: its recipe needs the package systemd-boot-efi", loaderPath)
	}
	program, err := b.spool.content(n, maxLoader)
	if err != nil {
		return err
	}
	signed, err := b.o.Loader(program)
	if err != nil {
		return fmt.Errorf("%q: %w", loaderPath, err)
	}
	return b.putFile(t, signedLoaderPath, 0o644, signed)
}
