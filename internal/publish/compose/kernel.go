package compose

import (
	"fmt"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// placeKernel moves the kernel from /boot to /usr/lib/modules/<version>/vmlinuz,
// where it is found by the version of its modules, with its configuration. An
// image has one kernel.
func (b *builder) placeKernel(t *tree.Tree) error {
	if boot := t.Lookup("/boot"); boot != nil && boot.IsDir() {
		for _, c := range append([]*tree.Node(nil), boot.Children...) {
			for prefix, name := range map[string]string{"vmlinuz-": "vmlinuz", "config-": "config"} {
				version, ok := strings.CutPrefix(c.Name, prefix)
				if !ok || t.Lookup("/usr/lib/modules/"+version) == nil {
					continue
				}
				boot.Remove(c.Name)
				if err := put(t, "/usr/lib/modules/"+version+"/"+name, c); err != nil {
					return err
				}
			}
		}
	}
	modules := t.Lookup("/usr/lib/modules")
	if modules == nil {
		return nil
	}
	for _, c := range modules.Children {
		if !c.IsDir() {
			continue
		}
		// Links into source packages that are not there.
		c.Remove("build")
		c.Remove("source")
		if c.Child("vmlinuz") == nil {
			continue
		}
		if b.result.KernelVersion != "" {
			return fmt.Errorf("the tree has two kernels, %s and %s", b.result.KernelVersion, c.Name)
		}
		b.result.KernelVersion = c.Name
	}
	return nil
}
