package compose

import (
	"fmt"
	"sort"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

const (
	dpkgDir     = "/var/lib/dpkg"
	sysimageDir = "/usr/lib/sysimage/dpkg"
	maxStatus   = 256 << 20
)

// movePackageDatabase moves dpkg's database to where it belongs in a system
// whose packages are part of the image, and leaves a link for the tools that
// look for it. Its status is sorted by package; locks, backups and what apt
// once had available go.
func (b *builder) movePackageDatabase(t *tree.Tree) error {
	db := t.Lookup(dpkgDir)
	if db == nil || !db.IsDir() {
		return nil
	}
	for _, name := range []string{
		"lock", "lock-frontend", "available", "available-old", "status-old", "diversions-old", "statoverride-old",
		"cmethopt", "methlock",
	} {
		remove(t, dpkgDir+"/"+name)
	}
	removeChildren(db.Child("updates"), nil)
	removeChildren(db.Child("tmp.ci"), nil)
	if triggers := db.Child("triggers"); triggers != nil {
		remove(t, dpkgDir+"/triggers/Lock")
	}
	if status := db.Child("status"); status != nil {
		text, err := b.spool.content(status, maxStatus)
		if err != nil {
			return err
		}
		stanzas := strings.Split(strings.TrimSpace(string(text)), "\n\n")
		sort.Strings(stanzas) // each begins with its Package field
		if err := b.spool.fill(status.Inode(), []byte(strings.Join(stanzas, "\n\n")+"\n")); err != nil {
			return err
		}
		for _, s := range stanzas {
			if p, ok := packageOf(s); ok {
				b.result.Packages = append(b.result.Packages, p)
			}
		}
		sort.Slice(b.result.Packages, func(i, j int) bool {
			x, y := b.result.Packages[i], b.result.Packages[j]
			if x.Name != y.Name {
				return x.Name < y.Name
			}
			return x.Architecture < y.Architecture
		})
	}
	parent := t.Lookup("/var/lib")
	parent.Remove("dpkg")
	if err := put(t, sysimageDir, db); err != nil {
		return fmt.Errorf("%q: %w", sysimageDir, err)
	}
	return putSymlink(t, dpkgDir, "../../usr/lib/sysimage/dpkg")
}

// packageOf reads one stanza of dpkg's status file.
func packageOf(stanza string) (p Package, ok bool) {
	for _, line := range strings.Split(stanza, "\n") {
		key, value, found := strings.Cut(line, ": ")
		if !found {
			continue
		}
		switch key {
		case "Package":
			p.Name = value
		case "Version":
			p.Version = value
		case "Architecture":
			p.Architecture = value
		case "Status":
			ok = strings.HasSuffix(value, " installed")
		}
	}
	return p, ok && p.Name != ""
}
