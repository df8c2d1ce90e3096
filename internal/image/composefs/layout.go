package composefs

import (
	"fmt"
	"math"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// noInode is the number of a node that is not in the tree.
const noInode = math.MaxUint32

// What an inode is besides what its node says.
const (
	compact      = 1 << iota // the 32-byte form
	stub                     // one of the root's 256 additions
	whiteout                 // written as a regular file
	hasWhiteouts             // a directory with such children
)

// inode is a node with its place in the image.
type inode struct {
	node   *tree.Node
	pos    int64  // byte offset in the image
	parent uint32 // number of the directory it is in
	first  uint32 // number of the first child; the others follow, hard links left out
	blocks uint32 // whole blocks of data, outside of the inode
	xattrs uint32 // bytes of extended attributes
	tail   uint16 // bytes of data right after the inode
	flags  uint8
	refs   uint8 // shared extended attributes
}

func (in *inode) is(flag uint8) bool { return in.flags&flag != 0 }

// mode returns the mode as the image has it.
func (in *inode) mode() uint32 {
	if in.is(whiteout) {
		return tree.TypeRegular | in.node.Mode&tree.PermMask
	}
	return in.node.Mode
}

func (in *inode) headSize() int64 {
	if in.is(compact) {
		return compactSize
	}
	return extendedSize
}

// image is a tree laid out. Beside the tree itself it keeps 40 bytes for
// an inode; extended attributes and directory entries are made anew whenever
// they are needed.
type image struct {
	inodes  []inode // breadth first; the index is the inode number
	targets map[*tree.Node]uint32
	version int
	acl     bool
	oldest  tree.Time
	sharing *sharing

	inodesEnd  int64 // the shared table begins here
	dataStart  int64
	dataBlocks int64
}

// newImage checks t and gives everything in it a place.
func newImage(t *tree.Tree, o Options) (*image, error) {
	c, err := takeCensus(t)
	if err != nil {
		return nil, err
	}
	im := &image{version: c.version, acl: c.acl, oldest: c.oldest, targets: c.targets}
	switch {
	case o.MinVersion < 0 || o.MinVersion > maxVersion:
		return nil, fmt.Errorf("format version %d is unknown, the highest is %d", o.MinVersion, maxVersion)
	case o.Exact:
		im.version = o.MinVersion
	default:
		im.version = max(im.version, o.MinVersion)
	}
	im.inodes = make([]inode, 0, c.inodes+256)
	im.number(t.Root)
	if err := im.findTargets(); err != nil {
		return nil, err
	}
	im.share(c.xattrs + 2*256)
	return im, im.place()
}

// number lists the inodes breadth first.
func (im *image) number(root *tree.Node) {
	merged, stubs := withStubs(root)
	im.inodes = append(im.inodes, inode{node: merged})
	for i := 0; i < len(im.inodes); i++ {
		n := im.inodes[i].node
		im.inodes[i].first = uint32(len(im.inodes))
		for _, child := range n.Children {
			if child.HardLink != nil {
				continue
			}
			in := inode{node: child, parent: uint32(i)}
			if isWhiteout(child) {
				in.flags = whiteout
				if i == 0 && stubs[child] {
					in.flags = stub
				} else {
					im.inodes[i].flags |= hasWhiteouts
				}
			}
			im.inodes = append(im.inodes, in)
		}
	}
}

// findTargets finds the numbers of the inodes that hard links name.
func (im *image) findTargets() error {
	if len(im.targets) == 0 {
		return nil
	}
	for i := range im.inodes {
		if _, wanted := im.targets[im.inodes[i].node]; wanted {
			im.targets[im.inodes[i].node] = uint32(i)
		}
	}
	for n, number := range im.targets {
		if number == noInode {
			return fmt.Errorf("a hard link's target, whose name is %q, is not in the tree", n.Name)
		}
	}
	return nil
}

// share finds out which of about count extended attributes go into the shared table.
func (im *image) share(count int) {
	im.sharing = newSharing(count)
	var s attributes
	for _, look := range []func(*attribute){im.sharing.mark, im.sharing.count} {
		for i := range im.inodes {
			list := s.of(im, &im.inodes[i])
			for j := range list {
				look(&list[j])
			}
		}
	}
	im.sharing.build()
}

// place gives each inode its position.
func (im *image) place() error {
	var s attributes
	var own []attribute
	var refs []int64
	pos := int64(firstInode)
	for i := range im.inodes {
		in := &im.inodes[i]
		own, refs = im.sharing.split(s.of(im, in), refs)
		if len(own)+len(refs) > 0 {
			size := int64(xattrHeadSize + 4*len(refs))
			for j := range own {
				size += own[j].size()
			}
			in.xattrs, in.refs = uint32(size), uint8(len(refs))
			if (size-xattrHeadSize)/4+1 > 0xffff {
				return fmt.Errorf("the extended attributes of inode %q are too large together: %d bytes", in.node.Name, size)
			}
		}
		im.measure(i)
		if im.isCompact(in) {
			in.flags |= compact
		}
		pos = roundUp(pos, slotSize)
		pos += in.pad(pos)
		in.pos = pos
		pos += in.headSize() + int64(in.xattrs) + int64(in.tail)
		im.dataBlocks += int64(in.blocks)
	}
	im.inodesEnd = roundUp(pos, slotSize)
	im.dataStart = roundUp(im.inodesEnd+im.sharing.tableLen, blockSize)
	if im.dataStart/blockSize+im.dataBlocks > math.MaxUint32 {
		return fmt.Errorf("the tree needs an image of more than 16 TiB")
	}
	return nil
}

// measure divides an inode's data into whole blocks and the tail, which is kept
// beside the inode.
func (im *image) measure(i int) {
	in := &im.inodes[i]
	n := in.node
	length := int64(0) // what does not fill a block
	switch in.mode() & tree.TypeMask {
	case tree.TypeDir:
		im.entries(i, func(e entry) {
			if length+direntSize+int64(len(e.name)) > blockSize {
				in.blocks++
				length = 0
			}
			length += direntSize + int64(len(e.name))
		})
	case tree.TypeSymlink:
		in.tail = uint16(len(n.Target))
		return
	case tree.TypeRegular:
		if isExternal(n) {
			_, count := chunks(n.Size)
			in.tail = uint16(count * chunkSize)
			return
		}
		in.blocks = uint32(len(n.Inline) / blockSize)
		length = int64(len(n.Inline) % blockSize)
	}
	if length > halfBlock {
		in.blocks++
		length = 0
	}
	in.tail = uint16(length)
}

// isCompact decides for the 32-byte form: it has no time of its own, and shorter
// fields.
func (im *image) isCompact(in *inode) bool {
	n := in.node
	if n.Mtime != im.oldest || n.UID > 0xffff || n.GID > 0xffff {
		return false
	}
	var size uint64
	switch n.Mode & tree.TypeMask {
	case tree.TypeDir:
		return im.subdirs(in) <= 0xffff-2 && uint64(in.blocks)*blockSize+uint64(in.tail) <= math.MaxUint32
	case tree.TypeRegular:
		size = n.Size
	}
	return n.Nlink <= 0xffff && size <= math.MaxUint32
}

// subdirs counts the directories in a directory.
func (im *image) subdirs(in *inode) uint32 {
	var count uint32
	for _, child := range in.node.Children {
		if child.IsDir() {
			count++
		}
	}
	return count
}

// pad returns how many bytes to leave out before the inode, so that its tail
// does not cross into another block, and moves the tail out when that cannot be.
func (in *inode) pad(pos int64) int64 {
	head := in.headSize() + int64(in.xattrs)
	if in.node.Mode&tree.TypeMask == tree.TypeSymlink {
		// The target stays in the block in which the inode begins.
		total := head + int64(in.tail)
		if total >= blockSize {
			in.blocks++
			in.tail = 0
		}
		if pos/blockSize != (pos+total-1)/blockSize {
			return roundUp(pos, blockSize) - pos
		}
		return 0
	}
	tail := int64(in.tail)
	left := blockSize - (pos+head)%blockSize
	if left >= tail {
		return 0
	}
	pad := roundUp(left, slotSize)
	if blockSize-(pos+head+pad)%blockSize >= tail {
		return pad
	}
	in.blocks++
	in.tail = 0
	return roundUp(pos, blockSize) - pos
}

// entry is one name in a directory.
type entry struct {
	name string
	nid  uint64
	kind uint8
}

// entries calls yield for each name in directory i, "." and ".." among them, in
// bytewise order. Until the inodes have their places nid is zero.
func (im *image) entries(i int, yield func(entry)) {
	in := &im.inodes[i]
	next := in.first
	special := []struct {
		name   string
		number uint32
	}{{".", uint32(i)}, {"..", in.parent}}
	for _, child := range in.node.Children {
		for len(special) > 0 && special[0].name < child.Name {
			yield(im.entry(special[0].name, special[0].number))
			special = special[1:]
		}
		number := next
		if child.HardLink != nil {
			number = im.targets[child.HardLink]
		} else {
			next++
		}
		yield(im.entry(child.Name, number))
	}
	for _, s := range special {
		yield(im.entry(s.name, s.number))
	}
}

func (im *image) entry(name string, number uint32) entry {
	in := &im.inodes[number]
	return entry{name, uint64(in.pos / slotSize), entryKinds[in.mode()&tree.TypeMask>>12]}
}

var entryKinds = [16]uint8{
	tree.TypeRegular >> 12: entryRegular,
	tree.TypeDir >> 12:     entryDir,
	tree.TypeChar >> 12:    entryChar,
	tree.TypeBlock >> 12:   entryBlock,
	tree.TypeFIFO >> 12:    entryFIFO,
	tree.TypeSocket >> 12:  entrySocket,
	tree.TypeSymlink >> 12: entrySymlink,
}
