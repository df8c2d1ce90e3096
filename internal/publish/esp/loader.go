package esp

import (
	"fmt"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// Where the image keeps systemd-boot, and a signed one that is taken instead.
const (
	loaderPath       = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
	signedLoaderPath = loaderPath + ".signed"
)

// maxLoader limits the loader in memory, in bytes; Debian's has 120 KB.
const maxLoader = 16 << 20

// FindLoader returns systemd-boot, which the image brings along: the signed one
// where there is one, which starts with and without Secure Boot.
func FindLoader(t *tree.Tree) (*tree.Node, error) {
	n := t.Lookup(signedLoaderPath)
	if n == nil {
		n = t.Lookup(loaderPath)
	}
	if n == nil || n.Inode().Mode&tree.TypeMask != tree.TypeRegular {
		return nil, fmt.Errorf("the image has no %q, so it cannot boot by itself: its recipe needs the package systemd-boot-efi", loaderPath)
	}
	n = n.Inode()
	if n.Size > maxLoader || n.Digest.IsZero() {
		return nil, fmt.Errorf("the loader in the image, %q, has %d bytes, which no loader has", n.Name, n.Size)
	}
	return n, nil
}
