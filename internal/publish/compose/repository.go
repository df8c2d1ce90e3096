package compose

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ashlar-os/ashlar/internal/publish/recipe"
)

// indexed is one package file as a repository's index lists it.
type indexed struct {
	control string // the control file's text
	file    string // name in the repository
	size    int64
	sha256  string
}

// writeIndex writes the Packages file of a flat repository (sources.list(5):
// a suite that is a path ending in a slash).
func writeIndex(dir string, list []indexed) error {
	var b strings.Builder
	for _, x := range list {
		fmt.Fprintf(&b, "%s\nFilename: ./%s\nSize: %d\nSHA256: %s\n\n", strings.TrimSpace(x.control), x.file, x.size, x.sha256)
	}
	return os.WriteFile(filepath.Join(dir, "Packages"), []byte(b.String()), 0o644)
}

// writeRepository lays out a flat repository of exactly the locked packages,
// as links into the cache, which has checked every hash. mmdebstrap gets no
// other source, so it cannot take another version, and needs no network.
func writeRepository(dir string, c *cache, l *recipe.Lock) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var list []indexed
	names := make([]string, 0, len(l.Packages))
	for _, p := range l.Packages {
		control, err := os.ReadFile(c.control(p.SHA256))
		if err != nil {
			return fmt.Errorf("package %s: %w", p.Name, err)
		}
		file := fmt.Sprintf("%s_%s_%s.deb", p.Name, strings.ReplaceAll(p.Version, ":", "."), p.Architecture)
		if err := os.Symlink(c.deb(p.SHA256), filepath.Join(dir, file)); err != nil {
			return err
		}
		list = append(list, indexed{string(control), file, p.Size, p.SHA256})
		names = append(names, p.Name)
	}
	if hasKernel(names) {
		x, err := writeStandIn(dir)
		if err != nil {
			return err
		}
		list = append(list, x)
	}
	return writeIndex(dir, list)
}
