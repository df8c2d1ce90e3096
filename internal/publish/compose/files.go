package compose

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/publish/recipe"
)

// addFiles places the recipe's files. Their owners are looked up in the tree's
// accounts, which have their final ids by then.
func (b *builder) addFiles(t *tree.Tree) error {
	for _, f := range b.o.Recipe.Files {
		n, err := b.fileNode(f)
		if err != nil {
			return fmt.Errorf("file %q: %w", f.Path, err)
		}
		if n.UID, n.GID, err = b.ownersOf(f); err != nil {
			return fmt.Errorf("file %q: %w", f.Path, err)
		}
		if n.IsDir() {
			if old := followDir(t, f.Path); old != nil {
				old.Mode, old.UID, old.GID = n.Mode, n.UID, n.GID
				continue
			}
		}
		if err := put(t, f.Path, n); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) fileNode(f recipe.File) (*tree.Node, error) {
	mode := fileMode(f)
	switch {
	case f.Directory:
		return &tree.Node{Mode: tree.TypeDir | mode}, nil
	case f.Symlink != "":
		return &tree.Node{Mode: tree.TypeSymlink | 0o777, Target: f.Symlink, Size: uint64(len(f.Symlink))}, nil
	}
	n := &tree.Node{Mode: tree.TypeRegular | mode}
	if f.Content != nil {
		return n, b.spool.fill(n, []byte(*f.Content))
	}
	src, err := os.Open(f.Source)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	return n, b.spool.fillReader(n, src)
}

// ownersOf gives the numbers of a file's owner and group.
func (b *builder) ownersOf(f recipe.File) (uid, gid uint32, err error) {
	if f.Owner == "" && f.Group == "" {
		return 0, 0, nil
	}
	if uid, err = lookupID(b.result.Users, f.Owner, "user"); err != nil {
		return 0, 0, err
	}
	gid, err = lookupID(b.result.Groups, f.Group, "group")
	return uid, gid, err
}

func lookupID(ids map[string]uint32, name, what string) (uint32, error) {
	if name == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), nil
	}
	id, ok := ids[name]
	if !ok {
		return 0, fmt.Errorf("there is no %s %q in the tree", what, name)
	}
	return id, nil
}

// exclude leaves out what the recipe's patterns match: a path, or with a
// trailing "/**" everything below it.
func (b *builder) exclude(t *tree.Tree) error {
	for _, pattern := range b.o.Recipe.Exclude {
		excludeBelow(t.Root, strings.Split(strings.Trim(pattern, "/"), "/"))
	}
	return nil
}

func excludeBelow(dir *tree.Node, parts []string) {
	if !dir.IsDir() {
		return
	}
	if parts[0] == "**" {
		removeChildren(dir, nil)
		return
	}
	var left []*tree.Node
	for _, c := range dir.Children {
		// The pattern's syntax was checked when the recipe was read.
		ok, _ := path.Match(parts[0], c.Name)
		switch {
		case ok && len(parts) == 1:
			unlink(c)
			continue
		case ok:
			excludeBelow(c, parts[1:])
		}
		left = append(left, c)
	}
	dir.Children = left
}
