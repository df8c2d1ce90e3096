package tree

import (
	"bytes"
	"slices"
)

// Change is how one name differs between two trees. Old is nil where the name
// was added, New where it was removed.
type Change struct {
	Path     string
	Old, New *Node
	What     []string // of a change: "type", "content", "target", "mode", "owner", "device", "xattrs", "links", "time"
}

// Compare lists the names in which b differs from a, in depth-first order.
// Everything that an image holds counts; a directory does not change with its
// entries. Contents are compared by digest, so both trees must have them.
func Compare(a, b *Tree) []Change {
	return compareNodes(nil, "/", a.Root, b.Root)
}

func compareNodes(list []Change, path string, a, b *Node) []Change {
	if a == nil || b == nil {
		list = append(list, Change{Path: path, Old: a, New: b})
	} else if what := a.differences(b); len(what) > 0 {
		list = append(list, Change{Path: path, Old: a, New: b, What: what})
	}
	var left, right []*Node
	if a != nil && a.IsDir() {
		left = a.Children
	}
	if b != nil && b.IsDir() {
		right = b.Children
	}
	if path != "/" {
		path += "/"
	}
	for len(left) > 0 || len(right) > 0 {
		var x, y *Node
		if len(right) == 0 || len(left) > 0 && left[0].Name <= right[0].Name {
			x = left[0]
		}
		if len(left) == 0 || len(right) > 0 && right[0].Name <= left[0].Name {
			y = right[0]
		}
		name := ""
		if x != nil {
			name, left = x.Name, left[1:]
		}
		if y != nil {
			name, right = y.Name, right[1:]
		}
		list = compareNodes(list, path+name, x, y)
	}
	return list
}

// differences says in what the inodes of n and m differ.
func (n *Node) differences(m *Node) (what []string) {
	n, m = n.Inode(), m.Inode()
	if n.Mode&TypeMask != m.Mode&TypeMask {
		return []string{"type"}
	}
	add := func(word string, differs bool) {
		if differs {
			what = append(what, word)
		}
	}
	add("content", n.IsRegular() && (n.Size != m.Size || n.Digest != m.Digest || !bytes.Equal(n.Inline, m.Inline)))
	add("target", n.Target != m.Target)
	add("mode", n.Mode != m.Mode)
	add("owner", n.UID != m.UID || n.GID != m.GID)
	add("device", n.Rdev != m.Rdev)
	add("xattrs", !slices.EqualFunc(n.Xattrs, m.Xattrs, func(x, y Xattr) bool {
		return x.Key == y.Key && bytes.Equal(x.Value, y.Value)
	}))
	add("links", !n.IsDir() && n.Nlink != m.Nlink)
	add("time", n.Mtime != m.Mtime)
	return what
}
