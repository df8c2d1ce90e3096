package composefs

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// grower makes random trees that use all that the format has.
type grower struct {
	*rand.Rand
	files  []*tree.Node // that hard links may lead to
	xattrs []tree.Xattr // used before, so that some are shared
	v1     bool         // whiteouts are possible
}

// randomTree makes a tree of about n inodes.
func randomTree(seed uint64, n int) *tree.Tree {
	g := &grower{Rand: rand.New(rand.NewPCG(seed, 42)), v1: seed%3 != 0}
	root := &tree.Node{}
	g.fill(root, tree.TypeDir)
	dirs := []*tree.Node{root}
	depth := map[*tree.Node]int{}
	for range n {
		dir := dirs[g.IntN(len(dirs))]
		if g.IntN(3) == 0 {
			dir = root // one directory of many blocks
		}
		c := g.child()
		c.Name = g.name(dir)
		dir.Add(c)
		if c.IsDir() && depth[dir] < 12 {
			depth[c] = depth[dir] + 1
			dirs = append(dirs, c)
		}
	}
	normalise(root)
	return &tree.Tree{Root: root}
}

func (g *grower) child() *tree.Node {
	n := &tree.Node{}
	switch g.IntN(12) {
	case 0, 1:
		g.fill(n, tree.TypeDir)
	case 2:
		g.fill(n, tree.TypeSymlink)
		n.Target = g.text(1 + g.IntN(40))
		if g.IntN(4) == 0 {
			n.Target = g.text(maxTarget - g.IntN(200))
		}
		n.Size = uint64(len(n.Target))
	case 3:
		if len(g.files) > 0 {
			n.HardLink = g.files[g.IntN(len(g.files))]
			n.HardLink.Nlink++
			return n
		}
		fallthrough
	case 4:
		g.fill(n, []uint32{tree.TypeFIFO, tree.TypeSocket, tree.TypeChar, tree.TypeBlock}[g.IntN(4)])
		if t := n.Mode & tree.TypeMask; t == tree.TypeChar || t == tree.TypeBlock {
			n.Rdev = 1 + g.Uint32N(1<<20)
		}
	case 5:
		if g.v1 {
			g.fill(n, tree.TypeChar)
			return n
		}
		fallthrough
	default:
		g.fill(n, tree.TypeRegular)
		g.content(n)
		if len(g.files) < 50 {
			g.files = append(g.files, n)
		}
	}
	return n
}

// content chooses where a file's content is.
func (g *grower) content(n *tree.Node) {
	switch g.IntN(8) {
	case 0:
		return
	case 1, 2:
		n.Inline = []byte(g.text(1 + g.IntN(64)))
	case 3:
		n.Inline = []byte(g.text(1 + g.IntN(maxInline)))
	case 4:
		n.Size = uint64(1)<<43 + g.Uint64N(1<<52) // a list of many chunks
	case 5:
		n.Size = 1 + g.Uint64N(1<<uint(1+g.IntN(43)))
	default:
		n.Size = 1 + g.Uint64N(1<<20)
	}
	if n.Inline != nil {
		n.Size = uint64(len(n.Inline))
		return
	}
	n.Digest[0], n.Digest[31] = 1+byte(g.IntN(200)), byte(g.IntN(3))
	switch g.IntN(10) {
	case 0:
	case 1:
		n.Payload = g.text(1 + g.IntN(300))
	default:
		n.Payload = ObjectPath(n.Digest)
	}
}

// fill sets what every inode has.
func (g *grower) fill(n *tree.Node, kind uint32) {
	n.Mode = kind | g.Uint32N(0o10000)
	n.Nlink = 1
	n.UID, n.GID = g.Uint32N(3), g.Uint32N(3)
	if g.IntN(30) == 0 {
		n.UID, n.GID = g.Uint32(), g.Uint32()
	}
	n.Mtime.Sec = 1e9
	switch g.IntN(20) {
	case 0:
		n.Mtime = tree.Time{Sec: g.Int64N(2e9), Nsec: g.Uint32N(1e9)}
	case 1:
		n.Mtime = tree.Time{Sec: -5, Nsec: 3}
	}
	for g.IntN(3) == 0 {
		g.xattr(n, g.IntN(12) == 0)
	}
	if g.IntN(60) == 0 {
		for range 150 { // more than an inode can share
			g.xattr(n, false)
		}
	}
}

func (g *grower) xattr(n *tree.Node, long bool) {
	prefixes := []string{"user.", "trusted.", "security.", "system.posix_acl_access", "system.posix_acl_default",
		"trusted.overlay.", "trusted.overlay.overlay.", "user.overlay.", "odd.", "u"}
	x := tree.Xattr{Key: prefixes[g.IntN(len(prefixes))], Value: []byte(g.text(g.IntN(20)))}
	if !strings.HasPrefix(x.Key, "system.") || g.IntN(5) == 0 {
		x.Key += g.text(1 + g.IntN(9))
	}
	if long {
		x.Key += g.text(200)
		x.Value = []byte(g.text(g.IntN(20000)))
	}
	if len(g.xattrs) > 0 && g.IntN(2) == 0 {
		x = g.xattrs[g.IntN(len(g.xattrs))]
	}
	has := func(y tree.Xattr) bool { return y.Key == x.Key }
	if slices.ContainsFunc(n.Xattrs, has) || checkXattrs(append(slices.Clone(n.Xattrs[:0]), x)) != nil {
		return
	}
	all := append(slices.Clone(n.Xattrs), x)
	slices.SortFunc(all, func(a, b tree.Xattr) int { return strings.Compare(a.Key, b.Key) })
	// The attributes by which whiteouts are marked are not the tree's to have.
	if checkXattrs(all) == nil && !strings.Contains(x.Key, "overlay.whiteout") {
		n.Xattrs = all
		g.xattrs = append(g.xattrs, x)
	}
}

// text is any bytes but zero and slash.
func (g *grower) text(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(1 + g.IntN(255))
		if b[i] == '/' || g.IntN(2) == 0 {
			b[i] = 'a' + byte(g.IntN(26))
		}
	}
	return string(b)
}

func (g *grower) name(dir *tree.Node) string {
	for {
		name := g.text(1 + g.IntN(12))
		switch g.IntN(12) {
		case 0:
			name = g.text(maxName)
		case 1:
			name = fmt.Sprintf("%02x", g.IntN(256)) // where a stub would be
		case 2:
			name = "." + name
		}
		if name != "." && name != ".." && dir.Child(name) == nil {
			return name
		}
	}
}

// normalise makes the first name of each hard-linked inode, breadth first, the
// one that has the inode. In which of them it is an image cannot always tell.
func normalise(root *tree.Node) {
	seen := make(map[*tree.Node]*tree.Node) // inode to its first name
	for queue := []*tree.Node{root}; len(queue) > 0; queue = queue[1:] {
		dir := queue[0]
		for i, c := range dir.Children {
			if c.IsDir() {
				queue = append(queue, c)
				continue
			}
			in := c.Inode()
			first := seen[in]
			if first == nil {
				moved := *in
				moved.Name = c.Name
				first = &moved
				seen[in] = first
				dir.Children[i] = first
				continue
			}
			dir.Children[i] = &tree.Node{Name: c.Name, HardLink: first}
		}
	}
}

// TestRandomTrees: whatever a tree holds, its image reads as that tree, and the
// image is in order by the judgement of fsck.erofs.
func TestRandomTrees(t *testing.T) {
	for seed := range uint64(60) {
		tr := randomTree(seed, 20+int(seed)*15)
		before := dump(t, tr)
		for _, o := range []Options{{}, {MinVersion: 1}, {Exact: true}} {
			checkRoundTrips(t, tr, o)
		}
		if dump(t, tr) != before {
			t.Fatalf("seed %d: writing changed the tree", seed)
		}
		if seed%10 == 0 {
			fsck(t, write(t, tr, Options{}))
		}
	}
}
