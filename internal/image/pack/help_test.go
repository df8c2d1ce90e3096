package pack

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// contents holds file contents by the names that a test's tree gives them. The
// names stand for fs-verity digests: to this package they are names and no more.
type contents map[verity.Digest][]byte

func name(b []byte) verity.Digest { return sha256.Sum256(b) }

func (c contents) open(n *tree.Node) (io.ReadCloser, error) {
	b, ok := c[n.Digest]
	if !ok {
		return nil, fmt.Errorf("no content %q", n.Digest)
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// file makes a regular file as compose would: inline up to 64 bytes.
func (c contents) file(name_ string, b []byte) *tree.Node {
	n := &tree.Node{Name: name_, Mode: tree.TypeRegular | 0o644, Nlink: 1, Size: uint64(len(b)), Mtime: tree.Time{Sec: 1_700_000_000}}
	switch {
	case len(b) > 64:
		n.Digest = name(b)
		c[n.Digest] = b
	case len(b) > 0:
		n.Inline = b
	}
	return n
}

func dir(name string) *tree.Node {
	return &tree.Node{Name: name, Mode: tree.TypeDir | 0o755, Mtime: tree.Time{Sec: 1_700_000_000}}
}

// bytesOf returns n bytes that compress to about half, from r.
func bytesOf(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32()) & 0x0f
	}
	return b
}

// randomTree makes a tree of some count inodes of every kind that a layer holds.
func randomTree(seed uint64, count, largest int) (*tree.Tree, contents) {
	r := rand.New(rand.NewPCG(seed, 1))
	c := contents{}
	root := dir("")
	dirs := []*tree.Node{root}
	var files []*tree.Node
	for i := range count {
		parent := dirs[r.IntN(len(dirs))]
		name := fmt.Sprintf("%c%d", 'a'+rune(r.IntN(26)), i)
		if r.IntN(20) == 0 {
			name += string(bytes.Repeat([]byte("long-ä-"), 1+r.IntN(25)))
		}
		var n *tree.Node
		switch k := r.IntN(100); {
		case k < 15:
			n = dir(name)
			dirs = append(dirs, n)
		case k < 25:
			n = &tree.Node{Name: name, Mode: tree.TypeSymlink | 0o777, Target: "../" + name, Nlink: 1}
			n.Size = uint64(len(n.Target))
		case k < 27:
			n = &tree.Node{Name: name, Mode: tree.TypeFIFO | 0o600, Nlink: 1}
		case k < 29:
			n = &tree.Node{Name: name, Mode: tree.TypeChar | 0o600, Nlink: 1, Rdev: 0x103}
		case k < 35 && len(files) > 0:
			target := files[r.IntN(len(files))]
			target.Nlink++
			n = &tree.Node{Name: name, HardLink: target}
		case k < 40 && len(files) > 0: // the same content once more
			was := files[r.IntN(len(files))]
			n = &tree.Node{Name: name, Mode: tree.TypeRegular | 0o600, Nlink: 1, Size: was.Size, Digest: was.Digest, Inline: was.Inline}
		default:
			size := r.IntN(1 << (1 + r.IntN(16)))
			if r.IntN(50) == 0 {
				size = r.IntN(largest)
			}
			n = c.file(name, bytesOf(r, size))
			files = append(files, n)
		}
		if n.HardLink == nil {
			n.UID, n.GID = uint32(r.IntN(3)), uint32(r.IntN(3))
			n.Mtime = tree.Time{Sec: 1_600_000_000 + int64(r.IntN(1000))}
			if n.IsRegular() || n.IsDir() {
				if r.IntN(10) == 0 {
					n.Xattrs = []tree.Xattr{{Key: "user.a", Value: []byte{0, 1, 0xff, '\n'}}, {Key: "user.empty", Value: nil}}
				}
			}
		}
		parent.Add(n)
	}
	return &tree.Tree{Root: root}, c
}
