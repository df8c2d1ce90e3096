package compose

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// deb is one package as dpkg's status database describes it.
type deb struct {
	Package
	Source, SourceVersion string // of the source package; never empty
	Maintainer, Homepage  string // as written; may be empty
}

// Limits on the status database.
const (
	maxStatusDB = 64 << 20 // bytes
	maxPackages = 1 << 17
	maxFieldLen = 1 << 10 // of the fields that are used, bytes
)

// statusFiles is where dpkg's database may be: where the tree rules move it,
// where dpkg has it, and the directories with one file a package of images
// that have no dpkg.
var statusFiles = []string{
	"/usr/lib/sysimage/dpkg/status", "/var/lib/dpkg/status",
	"/usr/lib/sysimage/dpkg/status.d", "/var/lib/dpkg/status.d",
}

// debsOf lists the packages that the tree's dpkg database says are
// there, sorted; none if there is no database.
func debsOf(t *tree.Tree) ([]deb, error) {
	var list []deb
	for _, where := range statusFiles {
		n := t.Lookup(where)
		if n == nil {
			continue
		}
		files := []*tree.Node{n}
		if n.IsDir() {
			files = slices.DeleteFunc(slices.Clone(n.Children), func(c *tree.Node) bool {
				return !c.Inode().IsRegular() || path.Ext(c.Name) == ".md5sums"
			})
		}
		for _, file := range files {
			b, err := nodeContent(file, maxStatusDB)
			if err == nil {
				list, err = parseStatus(list, b)
			}
			if err != nil {
				return nil, fmt.Errorf("reading the package database %q: %w", where, err)
			}
		}
	}
	slices.SortFunc(list, func(a, b deb) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Architecture, b.Architecture),
			strings.Compare(a.Version, b.Version))
	})
	list = slices.CompactFunc(list, func(a, b deb) bool { return a.Package == b.Package })
	return list, nil
}

// parseStatus adds the packages of a file in dpkg's format (deb822(5)) to list.
func parseStatus(list []deb, b []byte) ([]deb, error) {
	fields := make(map[string]string)
	number := 0
	flush := func() error {
		if len(fields) == 0 {
			return nil
		}
		p, err := newDeb(fields)
		if err != nil {
			return fmt.Errorf("the paragraph before line %d: %w", number, err)
		}
		if p != nil {
			list = append(list, *p)
		}
		if len(list) > maxPackages {
			return fmt.Errorf("it has more than %d packages", maxPackages)
		}
		clear(fields)
		return nil
	}
	for line := range bytes.Lines(b) {
		number++
		text := strings.TrimRight(string(line), " \t\r\n")
		switch {
		case text == "":
			if err := flush(); err != nil {
				return nil, err
			}
		case text[0] == ' ' || text[0] == '\t' || text[0] == '#':
			// More of a field, or a comment: no field that is used has more lines.
		default:
			name, value, ok := strings.Cut(text, ":")
			if !ok {
				return nil, fmt.Errorf("line %d, %.80q, is no field", number, text)
			}
			fields[strings.ToLower(name)] = strings.TrimSpace(value)
		}
	}
	number++
	return list, flush()
}

// newDeb gives nil for a package of which nothing is there.
func newDeb(fields map[string]string) (*deb, error) {
	if words := strings.Fields(fields["status"]); len(words) > 0 {
		if state := words[len(words)-1]; state == "not-installed" || state == "config-files" {
			return nil, nil
		}
	}
	p := &deb{Maintainer: fields["maintainer"], Homepage: fields["homepage"]}
	p.Name, p.Version, p.Architecture = fields["package"], fields["version"], fields["architecture"]
	for _, name := range []string{"package", "version", "architecture", "source", "maintainer", "homepage"} {
		if len(fields[name]) > maxFieldLen {
			return nil, fmt.Errorf("the field %q has %d bytes, at most %d are expected", name, len(fields[name]), maxFieldLen)
		}
	}
	if p.Name == "" || p.Version == "" || p.Architecture == "" {
		return nil, errors.New("it lacks one of Package, Version and Architecture")
	}
	// Source: NAME, or NAME (VERSION) where that differs from the binary's.
	source, version, _ := strings.Cut(fields["source"], "(")
	p.Source = cmp.Or(strings.TrimSpace(source), p.Name)
	p.SourceVersion = cmp.Or(strings.TrimSuffix(version, ")"), p.Version)
	return p, nil
}

// nodeContent reads a regular file of a tree being built, at most limit bytes.
func nodeContent(n *tree.Node, limit uint64) ([]byte, error) {
	n = n.Inode()
	switch {
	case !n.IsRegular():
		return nil, errors.New("it is not a regular file")
	case n.Size > limit:
		return nil, fmt.Errorf("it has %d bytes, at most %d are expected", n.Size, limit)
	case n.Digest.IsZero():
		return n.Inline, nil
	}
	return os.ReadFile(n.Source)
}
