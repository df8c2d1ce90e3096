package composefs

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// census is what a first walk over a tree finds out.
type census struct {
	inodes  int // without hard links and stubs
	xattrs  int // of all inodes, with those that the image adds
	version int
	acl     bool
	oldest  tree.Time
	targets map[*tree.Node]uint32 // of hard links; the numbers are filled in later
}

// takeCensus checks that an image can hold t and counts what is in it.
func takeCensus(t *tree.Tree) (*census, error) {
	if t == nil || t.Root == nil || !t.Root.IsDir() {
		return nil, fmt.Errorf("a tree has no root directory")
	}
	c := &census{oldest: t.Root.Mtime, targets: make(map[*tree.Node]uint32)}
	return c, c.visit(t.Root, make([]byte, 0, maxPath+1))
}

// visit walks n, whose path is given ("" for the root), and what is below it.
func (c *census) visit(n *tree.Node, path []byte) error {
	if n.HardLink != nil {
		if err := checkLink(n); err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
		c.targets[n.HardLink] = noInode
		return nil
	}
	if err := checkInode(n); err != nil {
		return fmt.Errorf("%q: %w", "/"+strings.TrimPrefix(string(path), "/"), err)
	}
	c.inodes++
	c.xattrs += len(n.Xattrs) + 2
	if isWhiteout(n) {
		c.version = 1
		c.xattrs += 4 // the parent's
	}
	if n.Mtime.Sec < c.oldest.Sec || n.Mtime.Sec == c.oldest.Sec && n.Mtime.Nsec < c.oldest.Nsec {
		c.oldest = n.Mtime
	}
	for i := range n.Xattrs {
		if k := n.Xattrs[i].Key; k == "system.posix_acl_access" || k == "system.posix_acl_default" {
			c.acl = true
		}
	}
	previous := ""
	for _, child := range n.Children {
		sub := append(append(path, '/'), child.Name...)
		if err := checkName(child.Name, len(sub)); err != nil {
			return fmt.Errorf("%q: %w", sub[:min(len(sub), 2*maxName)], err)
		}
		if child.Name <= previous {
			return fmt.Errorf("%q: the names of the directory are not sorted, or one is there twice", sub)
		}
		previous = child.Name
		if err := c.visit(child, sub); err != nil {
			return err
		}
	}
	return nil
}

// checkName checks a file name, with the length of the path that ends in it.
func checkName(name string, path int) error {
	switch {
	case name == "":
		return fmt.Errorf("the file name is empty")
	case name == "." || name == "..":
		return fmt.Errorf("the file name is %q", name)
	case len(name) > maxName:
		return fmt.Errorf("the file name has %d bytes, at most %d are possible", len(name), maxName)
	case strings.IndexByte(name, '/') >= 0 || strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("the file name %q holds a slash or a zero byte", name)
	case path > maxPath:
		return fmt.Errorf("the path has %d bytes, at most %d are possible", path, maxPath)
	}
	return nil
}

func checkLink(n *tree.Node) error {
	switch {
	case n.HardLink.HardLink != nil:
		return fmt.Errorf("the hard link's target is itself a hard link")
	case n.HardLink.IsDir():
		return fmt.Errorf("the hard link's target is a directory")
	case len(n.Children) > 0:
		return fmt.Errorf("a hard link has children")
	}
	return nil
}

// checkInode checks one inode against what the format can say.
func checkInode(n *tree.Node) error {
	switch n.Mode & tree.TypeMask {
	case tree.TypeRegular:
		if err := checkContent(n); err != nil {
			return err
		}
	case tree.TypeSymlink:
		if err := checkTarget(n.Target); err != nil {
			return err
		}
	case tree.TypeDir, tree.TypeChar, tree.TypeBlock, tree.TypeFIFO, tree.TypeSocket:
	default:
		return fmt.Errorf("mode %o has no known file type", n.Mode)
	}
	if n.Mode > 0xffff {
		return fmt.Errorf("mode %o has more than 16 bits", n.Mode)
	}
	if len(n.Children) > 0 && !n.IsDir() {
		return fmt.Errorf("it has children but is not a directory")
	}
	if n.Mtime.Nsec >= 1e9 {
		return fmt.Errorf("the modification time has %d nanoseconds", n.Mtime.Nsec)
	}
	return checkXattrs(n.Xattrs)
}

func checkContent(n *tree.Node) error {
	if len(n.Payload) > maxPath {
		return fmt.Errorf("the payload path has %d bytes, at most %d are possible", len(n.Payload), maxPath)
	}
	if strings.IndexByte(n.Payload, 0) >= 0 {
		return fmt.Errorf("the payload path %q holds a zero byte", n.Payload)
	}
	if len(n.Inline) > 0 {
		return checkInline(len(n.Inline), n.Size)
	}
	if n.Size > 0 {
		if _, count := chunks(n.Size); count > maxChunks {
			return fmt.Errorf("size %d is more than an image can say of a file", n.Size)
		}
	}
	return nil
}

func checkInline(length int, size uint64) error {
	if uint64(length) != size {
		return fmt.Errorf("the inline content has %d bytes, the size is %d", length, size)
	}
	if length > maxInline {
		return fmt.Errorf("the inline content has %d bytes, at most %d are possible", length, maxInline)
	}
	return nil
}

func checkTarget(target string) error {
	if target == "" {
		return fmt.Errorf("the symbolic link has no target")
	}
	if len(target) > maxTarget {
		return fmt.Errorf("the symbolic link's target has %d bytes, at most %d are possible", len(target), maxTarget)
	}
	if strings.IndexByte(target, 0) >= 0 {
		return fmt.Errorf("the symbolic link's target holds a zero byte")
	}
	return nil
}

// checkXattrs checks keys, values and their sum; keys must be sorted and differ.
func checkXattrs(xattrs []tree.Xattr) error {
	cost := 0
	for i, x := range xattrs {
		switch {
		case x.Key == "":
			return fmt.Errorf("an extended attribute has no name")
		case len(x.Key) > maxXattrName:
			return fmt.Errorf("the name of the extended attribute %.40q… has %d bytes, at most %d are possible", x.Key, len(x.Key), maxXattrName)
		case strings.IndexByte(x.Key, 0) >= 0:
			return fmt.Errorf("the name of the extended attribute %q holds a zero byte", x.Key)
		case len(x.Value) > 0xffff:
			return fmt.Errorf("the extended attribute %q has %d bytes", x.Key, len(x.Value))
		case i > 0 && x.Key == xattrs[i-1].Key:
			return fmt.Errorf("the extended attribute %q is there twice", x.Key)
		case i > 0 && x.Key < xattrs[i-1].Key:
			return fmt.Errorf("the extended attributes are not sorted: %q", x.Key)
		}
		if cost += xattrCost(x, i == 0); cost > maxXattrs {
			return fmt.Errorf("the extended attributes are too large together: more than %d bytes with %q", maxXattrs, x.Key)
		}
	}
	return nil
}

// xattrCost is what mkcomposefs reckons an attribute to take, at worst.
func xattrCost(x tree.Xattr, first bool) int {
	cost := 2*xattrEntrySize - 1 + len(x.Key) + len(x.Value)
	if first {
		cost += xattrHeadSize
	}
	return cost
}

// chunks tells how a file without content in the image is described: as holes of
// 2^bits bytes, one where possible.
func chunks(size uint64) (bitsEach int, count uint64) {
	bitsEach = min(max(bits.Len64(size-1), blockBits), maxChunkBits)
	return bitsEach, (size-1)>>bitsEach + 1
}
