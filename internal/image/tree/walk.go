package tree

import (
	"sort"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// Child returns the child of that name, or nil.
func (n *Node) Child(name string) *Node {
	i := sort.Search(len(n.Children), func(i int) bool { return n.Children[i].Name >= name })
	if i < len(n.Children) && n.Children[i].Name == name {
		return n.Children[i]
	}
	return nil
}

// Add inserts c in name order and returns it; a child of the same name is replaced.
func (n *Node) Add(c *Node) *Node {
	i := sort.Search(len(n.Children), func(i int) bool { return n.Children[i].Name >= c.Name })
	if i < len(n.Children) && n.Children[i].Name == c.Name {
		n.Children[i] = c
		return c
	}
	n.Children = append(n.Children, nil)
	copy(n.Children[i+1:], n.Children[i:])
	n.Children[i] = c
	return c
}

// Remove takes the child of that name out and returns it, or nil.
func (n *Node) Remove(name string) *Node {
	c := n.Child(name)
	if c == nil {
		return nil
	}
	i := sort.Search(len(n.Children), func(i int) bool { return n.Children[i].Name >= name })
	n.Children = append(n.Children[:i], n.Children[i+1:]...)
	return c
}

// Lookup returns the node at an absolute or root-relative path, or nil. It
// does not follow symbolic links.
func (t *Tree) Lookup(path string) *Node {
	n := t.Root
	for _, name := range strings.Split(strings.Trim(path, "/"), "/") {
		if name == "" {
			continue
		}
		if n == nil {
			return nil
		}
		n = n.Child(name)
	}
	return n
}

// Walk calls fn for every node in depth-first order, parents first, with its
// absolute path ("/" for the root). An error from fn ends the walk.
func (t *Tree) Walk(fn func(path string, n *Node) error) error {
	return walk("/", t.Root, fn)
}

func walk(path string, n *Node, fn func(string, *Node) error) error {
	if err := fn(path, n); err != nil {
		return err
	}
	prefix := path
	if prefix != "/" {
		prefix += "/"
	}
	for _, c := range n.Children {
		if err := walk(prefix+c.Name, c, fn); err != nil {
			return err
		}
	}
	return nil
}

// WalkInodes calls fn once for every inode in the order in which the image
// numbers them: breadth first, names sorted, hard links left out. The object
// pack and its index use this order.
func (t *Tree) WalkInodes(fn func(path string, n *Node) error) error {
	type item struct {
		path string
		node *Node
	}
	queue := []item{{"/", t.Root}}
	for len(queue) > 0 {
		it := queue[0]
		queue = queue[1:]
		if err := fn(it.path, it.node); err != nil {
			return err
		}
		prefix := it.path
		if prefix != "/" {
			prefix += "/"
		}
		for _, c := range it.node.Children {
			if c.HardLink == nil {
				queue = append(queue, item{prefix + c.Name, c})
			}
		}
	}
	return nil
}

// Object is one content that an image needs: its digest and size in bytes.
type Object struct {
	Digest verity.Digest
	Size   uint64
}

// Objects lists the distinct objects of t, in inode order, each once.
func (t *Tree) Objects() []Object {
	seen := make(map[verity.Digest]bool)
	var list []Object
	_ = t.WalkInodes(func(_ string, n *Node) error {
		if n.IsRegular() && !n.Digest.IsZero() && !seen[n.Digest] {
			seen[n.Digest] = true
			list = append(list, Object{n.Digest, n.Size})
		}
		return nil
	})
	return list
}
