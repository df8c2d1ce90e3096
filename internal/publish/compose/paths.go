package compose

import (
	"fmt"
	"path"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// maxLinks is how many symbolic links a path may go through, as in the kernel.
const maxLinks = 40

// follow gives the node at p as a program in the tree would see it, through
// symbolic links in every part but the last, or nil.
func follow(t *tree.Tree, p string) *tree.Node {
	dir := followDir(t, path.Dir(p))
	if dir == nil {
		return nil
	}
	return dir.Child(path.Base(p))
}

// followFile is follow through a symbolic link in the last part too.
func followFile(t *tree.Tree, p string) *tree.Node {
	p, ok := realPath(t, p)
	if !ok {
		return nil
	}
	return t.Lookup(p)
}

func followDir(t *tree.Tree, p string) *tree.Node {
	n := followFile(t, p)
	if n == nil || !n.IsDir() {
		return nil
	}
	return n
}

// realPath resolves every symbolic link in p; what does not exist stays as
// it is written. It reports false for a path through too many links.
func realPath(t *tree.Tree, p string) (string, bool) {
	todo := strings.Split(strings.Trim(path.Clean("/"+p), "/"), "/")
	done, links := "/", 0
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, name)
		n := t.Lookup(next)
		if n == nil || !n.IsSymlink() {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", false
		}
		if path.IsAbs(n.Target) {
			done = "/"
		}
		todo = append(strings.Split(strings.Trim(n.Target, "/"), "/"), todo...)
	}
	return done, true
}

// makeDir gives the directory at p, through symbolic links, making what is missing.
func makeDir(t *tree.Tree, p string) (*tree.Node, error) {
	real, ok := realPath(t, p)
	if !ok {
		return nil, fmt.Errorf("%q goes through too many symbolic links", p)
	}
	return ensureDir(t, real)
}

// put places a new node at p, replacing what is there.
func put(t *tree.Tree, p string, n *tree.Node) error {
	dir, err := makeDir(t, path.Dir(p))
	if err != nil {
		return fmt.Errorf("%q: %w", p, err)
	}
	n.Name = path.Base(p)
	if n.Nlink == 0 {
		n.Nlink = 1
	}
	unlink(dir.Child(n.Name))
	dir.Add(n)
	return nil
}

// putFile places a regular file with that content at p.
func (b *builder) putFile(t *tree.Tree, p string, mode uint32, content []byte) error {
	n := &tree.Node{Mode: tree.TypeRegular | mode}
	if err := b.spool.fill(n, content); err != nil {
		return err
	}
	return put(t, p, n)
}

func putSymlink(t *tree.Tree, p, target string) error {
	return put(t, p, &tree.Node{Mode: tree.TypeSymlink | 0o777, Target: target, Size: uint64(len(target))})
}

// remove takes the node at p out of the tree, if it is there.
func remove(t *tree.Tree, p string) *tree.Node {
	dir := t.Lookup(path.Dir(p))
	if dir == nil || !dir.IsDir() {
		return nil
	}
	n := dir.Remove(path.Base(p))
	unlink(n)
	return n
}

// unlink counts down the links of what was taken out of the tree. The first
// name of an inode may go before its other names: normalise finds them a new one.
func unlink(n *tree.Node) {
	if n == nil {
		return
	}
	if n.IsDir() {
		for _, c := range n.Children {
			unlink(c)
		}
		return
	}
	n.Inode().Nlink--
}

// removeChildren empties a directory but for what keep names.
func removeChildren(dir *tree.Node, keep func(*tree.Node) bool) {
	if dir == nil || !dir.IsDir() {
		return
	}
	var left []*tree.Node
	for _, c := range dir.Children {
		if keep != nil && keep(c) {
			left = append(left, c)
		} else {
			unlink(c)
		}
	}
	dir.Children = left
}
