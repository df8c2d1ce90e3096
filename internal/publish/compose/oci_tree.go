package compose

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// Limits on a flattened tree.
const (
	maxTreeEntries = 4 << 20 // names met in all layers together
	maxNameBytes   = 255     // NAME_MAX
	maxPathBytes   = 4095    // PATH_MAX, and of a symlink's target
	maxPathDepth   = 256
	maxLinkFollows = 40 // as the kernel
)

// layeredTree is a root file system while layers are applied to it.
//
// It differs from tree.Tree in three ways that whiteouts need: a directory is
// a map, names of one inode are equals (the first may go, the others stay),
// and each entry knows which layer it came from.
type layeredTree struct {
	store   storeFunc
	root    *entry
	layer   int   // of the entries being added, from 1
	entries int   // met so far
	bytes   int64 // contents met so far
}

// entry is one name.
type entry struct {
	inode    *tree.Node // shared by hard links; its Name and Children are not used
	children map[string]*entry
	layer    int // that the name is from
	cleared  int // layer in which what lies below and is older was removed
}

func newLayeredTree(store storeFunc) *layeredTree {
	return &layeredTree{store: store, root: newDirectory(0)}
}

// newDirectory is a directory that no layer describes, only implies.
func newDirectory(layer int) *entry {
	return &entry{
		inode:    &tree.Node{Mode: tree.TypeDir | 0o755},
		children: map[string]*entry{},
		layer:    layer,
	}
}

func (e *entry) isDir() bool { return e.inode.IsDir() }

// splitPath turns a path from a layer into its components. A leading slash
// and "." mean the root, as in every unpacker; ".." is refused, also where it
// would stay inside: no honest tool writes it.
func splitPath(path string) ([]string, error) {
	if len(path) > maxPathBytes {
		return nil, fmt.Errorf("path %.60q… has %d bytes, at most %d are allowed", path, len(path), maxPathBytes)
	}
	var names []string
	for name := range strings.SplitSeq(path, "/") {
		switch {
		case name == "" || name == ".":
			continue
		case name == "..":
			return nil, fmt.Errorf("path %q contains %q", path, "..")
		case len(name) > maxNameBytes:
			return nil, fmt.Errorf("path %.60q… has a name of %d bytes, at most %d are allowed", path, len(name), maxNameBytes)
		case strings.IndexByte(name, 0) >= 0:
			return nil, fmt.Errorf("path %q contains a zero byte", path)
		}
		names = append(names, name)
	}
	if len(names) > maxPathDepth {
		return nil, fmt.Errorf("path %.60q… is %d directories deep, at most %d are allowed", path, len(names), maxPathDepth)
	}
	return names, nil
}

// directory finds the directory at names, following symbolic links with the
// tree's own root as the limit (a layer may well write lib/x where a lower
// layer made lib a link to usr/lib). With create, what is missing is made.
func (t *layeredTree) directory(names []string, create bool) (*entry, error) {
	stack := []*entry{t.root} // from the root to here, for ".." in links
	follows := 0
	for len(names) > 0 {
		name := names[0]
		names = names[1:]
		here := stack[len(stack)-1]
		if name == ".." {
			stack = stack[:max(1, len(stack)-1)]
			continue
		}
		next := here.children[name]
		switch {
		case next == nil && !create:
			return nil, nil
		case next == nil:
			next = newDirectory(t.layer)
			here.children[name] = next
		case next.inode.IsSymlink():
			if follows++; follows > maxLinkFollows {
				return nil, fmt.Errorf("symbolic link %q leads through more than %d links", name, maxLinkFollows)
			}
			target, rest := next.inode.Target, names
			if strings.HasPrefix(target, "/") {
				stack = stack[:1]
			}
			names = nil
			for part := range strings.SplitSeq(target, "/") {
				if part != "" && part != "." {
					names = append(names, part)
				}
			}
			names = append(names, rest...)
			continue
		}
		if !next.isDir() {
			return nil, fmt.Errorf("%q is not a directory", name)
		}
		if len(stack) > maxPathDepth {
			return nil, fmt.Errorf("the directory %q is more than %d deep", name, maxPathDepth)
		}
		stack = append(stack, next)
	}
	return stack[len(stack)-1], nil
}

// put gives path a new inode. A directory over a directory only changes its
// metadata; a name of this layer may not change its type.
func (t *layeredTree) put(path string, inode *tree.Node) error {
	names, err := splitPath(path)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		if !inode.IsDir() {
			return errors.New("the root is not a directory")
		}
		t.root.inode, t.root.layer = inode, t.layer
		return nil
	}
	parent, err := t.directory(names[:len(names)-1], true)
	if err != nil {
		return err
	}
	name := names[len(names)-1]
	old := parent.children[name]
	e := &entry{inode: inode, layer: t.layer}
	if inode.IsDir() {
		e.children = map[string]*entry{}
	}
	if old != nil {
		if old.layer == t.layer && (old.isDir() || inode.IsDir()) && old.isDir() != inode.IsDir() {
			return errors.New("the layer has it twice, once as a directory and once not")
		}
		if old.isDir() && inode.IsDir() {
			old.inode, old.layer = inode, t.layer
			return nil
		}
		if old.isDir() && hasLayer(old, t.layer) {
			return errors.New("the layer puts files below it, and says that it is no directory")
		}
	}
	parent.children[name] = e
	return nil
}

// link makes path one more name of the inode that target names.
func (t *layeredTree) link(path, target string) error {
	names, err := splitPath(target)
	if err != nil {
		return fmt.Errorf("hard link: %w", err)
	}
	if len(names) == 0 {
		return errors.New("it is a hard link to the root")
	}
	parent, err := t.directory(names[:len(names)-1], false)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", target, err)
	}
	var found *entry
	if parent != nil {
		found = parent.children[names[len(names)-1]]
	}
	if found == nil {
		return fmt.Errorf("it is a hard link to %q, which is not there", target)
	}
	if found.isDir() {
		return fmt.Errorf("it is a hard link to %q, which is a directory", target)
	}
	return t.put(path, found.inode)
}

// whiteout removes what lower layers have at path.
func (t *layeredTree) whiteout(path string) error {
	names, err := splitPath(path)
	if err != nil {
		return err
	}
	parent, err := t.directory(names[:len(names)-1], false)
	if err != nil || parent == nil {
		return err
	}
	name := names[len(names)-1]
	if e := parent.children[name]; e != nil && t.clear(e) {
		delete(parent.children, name)
	}
	return nil
}

// opaque removes what lower layers have in the directory at path.
func (t *layeredTree) opaque(path string) error {
	names, err := splitPath(path)
	if err != nil {
		return err
	}
	dir, err := t.directory(names, true)
	if err != nil {
		return err
	}
	t.clear(dir)
	return nil
}

// clear removes from e what is older than this layer, and reports whether e
// itself is older and empty now. Order within a layer means nothing: what the
// layer itself put there stays. Once cleared, an entry has nothing older, so
// many whiteouts of one directory cost no more than one.
func (t *layeredTree) clear(e *entry) (gone bool) {
	if e.cleared != t.layer {
		e.cleared = t.layer
		for name, child := range e.children {
			if t.clear(child) {
				delete(e.children, name)
			}
		}
	}
	return e.layer != t.layer && len(e.children) == 0
}

// hasLayer reports whether anything below e is from that layer.
func hasLayer(e *entry, layer int) bool {
	for _, child := range e.children {
		if child.layer == layer || hasLayer(child, layer) {
			return true
		}
	}
	return false
}

// finish turns the layers into a tree. The first name of an inode, depth
// first, becomes the inode, and the others become hard links to it.
func (t *layeredTree) finish() *tree.Tree {
	seen := make(map[*tree.Node]bool)
	t.root.inode.Name = ""
	fillDirectory(t.root, seen)
	return &tree.Tree{Root: t.root.inode}
}

func fillDirectory(dir *entry, seen map[*tree.Node]bool) {
	names := slices.Sorted(maps.Keys(dir.children))
	dir.inode.Children = make([]*tree.Node, 0, len(names))
	for _, name := range names {
		child := dir.children[name]
		n := child.inode
		if seen[n] {
			n.Nlink++
			n = &tree.Node{Name: name, HardLink: n}
		} else {
			seen[n] = true
			n.Name, n.Nlink = name, 1
		}
		dir.inode.Children = append(dir.inode.Children, n)
		if child.isDir() {
			fillDirectory(child, seen)
		}
	}
}
