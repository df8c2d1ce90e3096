package composefs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// MaxImageSize is the largest image that is read, in bytes: some ten million
// inodes.
const MaxImageSize = 4 << 30

// Header is what an image says of itself.
type Header struct {
	Version int    // composefs format version, 0 or 1
	Inodes  uint64 // with the 256 stubs
	ACL     bool   // whether any inode has a POSIX access control list

	root      uint64 // nid
	build     tree.Time
	xattrBase int64 // bytes
}

// ReadHeader reads the header and the superblock of an image of size bytes.
func ReadHeader(r io.ReaderAt, size int64) (Header, error) {
	if size < 2*blockSize || size%blockSize != 0 {
		return Header{}, fmt.Errorf("not a composefs image: %d bytes is no possible size", size)
	}
	if size > MaxImageSize {
		return Header{}, fmt.Errorf("the image has %d bytes, at most %d are read", size, int64(MaxImageSize))
	}
	b := make([]byte, firstInode)
	if _, err := r.ReadAt(b, 0); err != nil {
		return Header{}, fmt.Errorf("reading the image's header: %w", err)
	}
	return decodeHeader(b, size)
}

func decodeHeader(b []byte, size int64) (h Header, err error) {
	le, s := binary.LittleEndian, b[superOffset:]
	h = Header{
		Version:   int(le.Uint32(b[12:])),
		Inodes:    le.Uint64(s[16:]),
		ACL:       le.Uint32(b[8:])&flagACL != 0,
		root:      uint64(le.Uint16(s[14:])),
		build:     tree.Time{Sec: int64(le.Uint64(s[24:])), Nsec: le.Uint32(s[32:])},
		xattrBase: int64(le.Uint32(s[44:])) * blockSize,
	}
	field := func(name string, v uint32) error {
		return fmt.Errorf("not a composefs image that can be read: the field %s is %#x", name, v)
	}
	switch {
	case le.Uint32(b[0:]) != composefsMagic:
		return h, errors.New("not a composefs image: it does not begin with the magic number")
	case le.Uint32(b[4:]) != headerVersion:
		return h, field("version", le.Uint32(b[4:]))
	case le.Uint32(b[8:])&^uint32(flagACL) != 0:
		return h, field("flags", le.Uint32(b[8:]))
	case le.Uint32(b[12:]) > maxVersion:
		return h, field("composefs_version", le.Uint32(b[12:]))
	case le.Uint32(s[0:]) != erofsMagic:
		return h, field("magic", le.Uint32(s[0:]))
	case s[12] != blockBits:
		return h, field("blkszbits", uint32(s[12]))
	case le.Uint32(s[40:]) != 0:
		return h, field("meta_blkaddr", le.Uint32(s[40:]))
	case le.Uint32(s[80:]) != 0:
		return h, field("feature_incompat", le.Uint32(s[80:]))
	case int64(le.Uint32(s[36:]))*blockSize != size:
		return h, fmt.Errorf("the image has %d bytes, but says that it has %d blocks of %d", size, le.Uint32(s[36:]), blockSize)
	case h.Inodes == 0 || h.Inodes > uint64(size)/compactSize:
		return h, fmt.Errorf("the image says that it has %d inodes in %d bytes", h.Inodes, size)
	case h.xattrBase > size:
		return h, field("xattr_blkaddr", le.Uint32(s[44:]))
	}
	return h, nil
}

// Read reads the image of size bytes and undoes what was done to the tree when
// it was written: escaped overlay attributes, whiteouts, the root's 256 stubs.
//
// A hostile image cannot make it fail otherwise than with an error, nor use
// memory out of proportion to size: every byte of the image may be used once.
func Read(r io.ReaderAt, size int64) (*tree.Tree, error) {
	if _, err := ReadHeader(r, size); err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if n, err := r.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("reading the image after %d bytes: %w", n, err)
	}
	return ReadBytes(b)
}

// ReadBytes is Read from memory. The tree does not refer to b.
func ReadBytes(b []byte) (*tree.Tree, error) {
	if len(b) < firstInode {
		return nil, fmt.Errorf("not a composefs image: it has only %d bytes", len(b))
	}
	if len(b)%blockSize != 0 || int64(len(b)) > MaxImageSize {
		return nil, fmt.Errorf("not a composefs image: %d bytes is no possible size", len(b))
	}
	h, err := decodeHeader(b, int64(len(b)))
	if err != nil {
		return nil, err
	}
	d := &decoder{Header: h, b: b, budget: int64(len(b)), shared: make(map[int64]tree.Xattr)}
	root, err := d.tree()
	if err != nil {
		return nil, fmt.Errorf("the image is damaged: %w", err)
	}
	return &tree.Tree{Root: root}, nil
}

// decoder reads an image that is in memory.
type decoder struct {
	Header
	b      []byte
	budget int64 // bytes of b that were not used yet
	shared map[int64]tree.Xattr

	// Inode numbers count the inodes breadth first, so that the next new inode
	// is known in advance: an entry for any other one is a hard link. That is
	// also why no circle of directories can be entered.
	nodes []*tree.Node // by inode number; nil for stubs
	nids  []uint64
	links []pendingLink
}

// pendingLink is a directory entry for an inode that was met elsewhere, or will be.
type pendingLink struct {
	node *tree.Node
	nid  uint64
	ino  uint32
}

// openDir is a directory whose entries are to be read.
type openDir struct {
	node   *tree.Node
	raw    rawInode
	parent uint64 // nid
	path   int    // length
}

// use counts bytes as used, so that parts of a hostile image that overlap cannot
// make up a tree larger than the image.
func (d *decoder) use(n int64) error {
	if d.budget -= n; d.budget < 0 {
		return errors.New("parts of it overlap")
	}
	return nil
}

// at returns n bytes of the image from an offset.
func (d *decoder) at(offset, n int64) ([]byte, error) {
	if offset < 0 || n < 0 || offset > int64(len(d.b))-n {
		return nil, fmt.Errorf("%d bytes at %d are outside of the file", n, offset)
	}
	return d.b[offset : offset+n], nil
}

func (d *decoder) tree() (*tree.Node, error) {
	raw, err := d.inode(d.root)
	if err != nil {
		return nil, err
	}
	if raw.ino != 0 || raw.mode&tree.TypeMask != tree.TypeDir {
		return nil, fmt.Errorf("its root is inode %d with mode %o, not a directory with number 0", raw.ino, raw.mode)
	}
	root, err := d.node("", &raw)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	d.add(root, d.root)
	queue := []openDir{{root, raw, d.root, 0}}
	for len(queue) > 0 {
		dir := queue[0]
		queue[0] = openDir{}
		queue = queue[1:]
		if queue, err = d.directory(&dir, queue); err != nil {
			return nil, fmt.Errorf("directory %q (inode %d): %w", dir.node.Name, dir.raw.ino, err)
		}
	}
	for _, l := range d.links {
		if int64(l.ino) >= int64(len(d.nodes)) || d.nids[l.ino] != l.nid || d.nodes[l.ino] == nil {
			return nil, fmt.Errorf("%q leads to inode %d at %d, which no directory has first", l.node.Name, l.ino, l.nid*slotSize)
		}
		if l.node.HardLink = d.nodes[l.ino]; l.node.HardLink.IsDir() {
			return nil, fmt.Errorf("%q is a hard link to a directory", l.node.Name)
		}
	}
	if uint64(len(d.nodes)) != d.Inodes {
		return nil, fmt.Errorf("it has %d inodes, its superblock says %d", len(d.nodes), d.Inodes)
	}
	return root, nil
}

func (d *decoder) add(n *tree.Node, nid uint64) {
	d.nodes = append(d.nodes, n)
	d.nids = append(d.nids, nid)
}

// directory reads the entries of a directory and appends the directories among
// them to the queue.
func (d *decoder) directory(dir *openDir, queue []openDir) ([]openDir, error) {
	previous, dots, whiteouts := "", 0, false
	marked := d.marked(dir.node)
	err := d.dirents(&dir.raw, func(name string, nid uint64, kind uint8) error {
		if name <= previous {
			return fmt.Errorf("%q comes after %q", name, previous)
		}
		previous = name
		switch name {
		case ".", "..":
			want := dir.parent
			if name == "." {
				want = d.nids[dir.raw.ino]
			}
			if nid != want || kind != entryDir {
				return fmt.Errorf("%q leads to %d, not to %d", name, nid*slotSize, want*slotSize)
			}
			dots++
			return nil
		}
		length := dir.path + 1 + len(name)
		if err := checkName(name, length); err != nil {
			return err
		}
		raw, err := d.inode(nid)
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		if kind != entryKinds[raw.mode&tree.TypeMask>>12] {
			return fmt.Errorf("%q: entry of type %d for an inode of mode %o", name, kind, raw.mode)
		}
		if int64(raw.ino) != int64(len(d.nodes)) {
			link := &tree.Node{Name: name}
			d.links = append(d.links, pendingLink{link, nid, raw.ino})
			dir.node.Children = append(dir.node.Children, link)
			return nil
		}
		n, err := d.node(name, &raw)
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		if isWhiteout(n) {
			if dir.raw.ino != 0 || len(name) != 2 || hexValue[name[0]] < 0 || hexValue[name[1]] < 0 {
				return fmt.Errorf("%q: a whiteout that is not escaped", name)
			}
			d.add(nil, nid)
			return nil
		}
		d.add(n, nid)
		whiteouts = undoWhiteout(n, marked) || whiteouts
		dir.node.Children = append(dir.node.Children, n)
		if n.IsDir() {
			queue = append(queue, openDir{n, raw, d.nids[dir.raw.ino], length})
		}
		return nil
	})
	if err == nil && dots != 2 {
		err = errors.New(`"." or ".." is missing`)
	}
	if whiteouts {
		d.unmark(dir.node)
	}
	return queue, err
}
