package compose

import (
	"fmt"
	"path"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

const (
	factoryVar   = "/usr/share/factory/var"
	factoryLines = "/usr/lib/tmpfiles.d/zz-ashlar-var.conf"
)

// current are files in /var that are made from the image alone. A machine has
// links to the copy, so that it sees its own release's.
var current = map[string]bool{"/var/lib/systemd/catalog/database": true}

// makeFactory moves what is in /var to the factory copy and writes the
// tmpfiles.d(5) lines that put it back on a machine whose /var lacks it. Modes
// and owners apply when something is made (the colon), never again, so what
// an administrator changes stays changed.
func (b *builder) makeFactory(t *tree.Tree) error {
	v := t.Lookup("/var")
	declared, err := b.declaredPaths(t)
	if err != nil {
		return err
	}
	var lines strings.Builder
	lines.WriteString("# What packages put into /var, for machines that do not have it yet. Made by ashlar.\n")
	copies := &tree.Node{Mode: tree.TypeDir | 0o755, Nlink: 1, Children: nil}
	if err := factoryDir(&lines, "/var", v, copies, declared); err != nil {
		return err
	}
	v.Children = nil
	if len(copies.Children) > 0 {
		if err := put(t, factoryVar, copies); err != nil {
			return err
		}
	}
	return b.putFile(t, factoryLines, 0o644, []byte(lines.String()))
}

// factoryDir writes the lines for what is below dir, and adds to copies what
// a line must copy: regular files and the directories on their way.
func factoryDir(lines *strings.Builder, at string, dir, copies *tree.Node, declared map[string]bool) error {
	for _, c := range dir.Children {
		p := at + "/" + c.Name
		n := c.Inode()
		quoted := tmpfilesPath(p)
		switch {
		case n.IsDir():
			if !declared[p] {
				fmt.Fprintf(lines, "d %s :%04o :%d :%d - -\n", quoted, n.Mode&tree.PermMask, n.UID, n.GID)
			}
			below := &tree.Node{Name: c.Name, Mode: n.Mode, UID: n.UID, GID: n.GID, Xattrs: n.Xattrs, Nlink: 1}
			if err := factoryDir(lines, p, n, below, declared); err != nil {
				return err
			}
			if len(below.Children) > 0 {
				copies.Add(below)
			}
		case n.IsSymlink():
			if !declared[p] {
				fmt.Fprintf(lines, "L %s - - - - %s\n", quoted, strings.ReplaceAll(n.Target, "%", "%%"))
			}
		case n.Mode&tree.TypeMask == tree.TypeRegular:
			copies.Add(c)
			source := tmpfilesPath(factoryVar + strings.TrimPrefix(p, "/var"))
			switch {
			case current[p]:
				fmt.Fprintf(lines, "L+ %s - - - - %s\n", quoted, source)
			case !declared[p]:
				fmt.Fprintf(lines, "C %s :%04o :%d :%d - %s\n", quoted, n.Mode&tree.PermMask, n.UID, n.GID, source)
			}
		default:
			return fmt.Errorf("%q is neither file, directory nor link: it cannot be in a factory copy", p)
		}
	}
	return nil
}

// tmpfilesPath writes a path as tmpfiles.d(5) reads it: specifiers doubled,
// and quoted where it has spaces or quotes.
func tmpfilesPath(p string) string {
	p = strings.ReplaceAll(p, "%", "%%")
	if strings.ContainsAny(p, " \t'\"\\") {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(p) + `"`
	}
	return p
}

// declaredPaths are the paths that the packages' own tmpfiles.d lines make.
func (b *builder) declaredPaths(t *tree.Tree) (map[string]bool, error) {
	declared := make(map[string]bool)
	for _, dir := range []string{"/usr/lib/tmpfiles.d", "/usr/etc/tmpfiles.d"} {
		d := t.Lookup(dir)
		if d == nil {
			continue
		}
		for _, c := range d.Children {
			if path.Ext(c.Name) != ".conf" || !c.Inode().IsRegular() {
				continue
			}
			text, err := b.spool.content(c, maxUnit)
			if err != nil {
				return nil, err
			}
			for _, line := range strings.Split(string(text), "\n") {
				f := strings.Fields(line)
				if len(f) < 2 || strings.HasPrefix(f[0], "#") {
					continue
				}
				switch strings.TrimRight(f[0], "!-=~^$+?") {
				case "d", "D", "L", "C", "f", "v", "q", "Q", "p":
					if !strings.ContainsAny(f[0], "!?") {
						declared[path.Clean(f[1])] = true
					}
				}
			}
		}
	}
	return declared, nil
}
