package composefs

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// maxVersion is the highest format version.
const maxVersion = 1

// Options of an image. The zero value is what mkcomposefs does by default.
type Options struct {
	MinVersion int  // the lowest format version, 0 or 1; a tree with whiteouts gets at least 1
	Exact      bool // the version is MinVersion, whatever the tree holds
}

// Write writes the image of t to w, from the beginning to the end. It does not
// change t, whose names and extended attributes must be sorted.
func Write(w io.Writer, t *tree.Tree, o Options) error {
	im, err := newImage(t, o)
	if err != nil {
		return fmt.Errorf("cannot make an image: %w", err)
	}
	e := &emitter{im: im, w: bufio.NewWriterSize(w, 256<<10), block: uint32(im.dataStart / blockSize)}
	e.super()
	for i := range im.inodes {
		e.inode(i)
	}
	e.padTo(im.inodesEnd)
	for _, x := range im.sharing.table {
		e.attribute(&x.attribute)
	}
	e.padTo(im.dataStart)
	for i := range im.inodes {
		e.data(i)
	}
	if err := e.w.Flush(); err != nil {
		return fmt.Errorf("writing an image: %w", err)
	}
	return nil
}

// Digest returns the digest and the size of the image of t, the ones that Write
// makes with the default options.
func Digest(t *tree.Tree) (verity.Digest, int64, error) { return DigestWith(t, Options{}) }

// DigestWith is Digest with options.
func DigestWith(t *tree.Tree, o Options) (verity.Digest, int64, error) {
	h := verity.NewHasher()
	if err := Write(h, t, o); err != nil {
		return verity.Digest{}, 0, err
	}
	return h.Sum(), h.Size(), nil
}

// emitter writes the parts of an image one after the other. Errors of the writer
// below stay in w until Flush.
type emitter struct {
	im    *image
	w     *bufio.Writer
	pos   int64
	block uint32 // the next data block to be given out

	attrs   attributes
	refs    []int64
	entries []entry // of the directory block that is being filled
	buf     [extendedSize]byte
}

var zeros [blockSize]byte

func (e *emitter) write(b []byte) {
	e.w.Write(b)
	e.pos += int64(len(b))
}

func (e *emitter) writeString(s string) {
	e.w.WriteString(s)
	e.pos += int64(len(s))
}

// padTo writes zeros up to a position.
func (e *emitter) padTo(pos int64) {
	for e.pos < pos {
		e.write(zeros[:min(pos-e.pos, blockSize)])
	}
}

func (e *emitter) align(to int64) { e.padTo(roundUp(e.pos, to)) }

func (e *emitter) super() {
	im := e.im
	s := superblock{
		rootNID:   uint16(im.inodes[0].pos / slotSize),
		inodes:    uint64(len(im.inodes)),
		buildSec:  im.oldest.Sec,
		buildNsec: im.oldest.Nsec,
		blocks:    uint32(im.dataStart/blockSize + im.dataBlocks),
		xattrAddr: uint32(im.inodesEnd / blockSize),
	}
	var flags uint32
	if im.acl {
		flags = flagACL
	}
	e.write(s.encode(im.version, flags))
}

// inode writes one inode, its extended attributes and its tail.
func (e *emitter) inode(i int) {
	in := &e.im.inodes[i]
	n := in.node
	e.padTo(in.pos)

	nlink, size, layout := n.Nlink, uint64(0), layoutPlain
	if in.tail > 0 {
		layout = layoutInline
	}
	var union uint32 // i_u: where the data is, or what stands in its place
	if in.blocks > 0 {
		union = e.block
		e.block += in.blocks
	}
	switch in.mode() & tree.TypeMask {
	case tree.TypeDir:
		nlink = 2 + e.im.subdirs(in)
		size = uint64(in.blocks)*blockSize + uint64(in.tail)
	case tree.TypeSymlink:
		size = uint64(len(n.Target))
	case tree.TypeRegular:
		if in.is(whiteout) {
			break
		}
		size = n.Size
		if isExternal(n) {
			bits, _ := chunks(n.Size)
			layout = layoutChunks
			// Where the chunk list had to leave the inode, mkcomposefs still
			// writes the format over the low half of its address.
			union = union&^0xffff | uint32(bits-blockBits)
		}
	case tree.TypeChar, tree.TypeBlock:
		union = n.Rdev
	}

	le, b := binary.LittleEndian, e.buf[:in.headSize()]
	clear(b)
	icount := uint16(0)
	if in.xattrs > 0 {
		icount = uint16((in.xattrs-xattrHeadSize)/4 + 1)
	}
	le.PutUint16(b[2:], icount)
	le.PutUint16(b[4:], uint16(in.mode()))
	if in.is(compact) {
		le.PutUint16(b[0:], uint16(layout<<1))
		le.PutUint16(b[6:], uint16(nlink))
		le.PutUint32(b[8:], uint32(size))
		le.PutUint32(b[16:], union)
		le.PutUint32(b[20:], uint32(i))
		le.PutUint16(b[24:], uint16(n.UID))
		le.PutUint16(b[26:], uint16(n.GID))
	} else {
		le.PutUint16(b[0:], uint16(layout<<1|1))
		le.PutUint64(b[8:], size)
		le.PutUint32(b[16:], union)
		le.PutUint32(b[20:], uint32(i))
		le.PutUint32(b[24:], n.UID)
		le.PutUint32(b[28:], n.GID)
		le.PutUint64(b[32:], uint64(n.Mtime.Sec))
		le.PutUint32(b[40:], n.Mtime.Nsec)
		le.PutUint32(b[44:], nlink)
	}
	e.write(b)
	e.xattrs(in)
	e.tail(i)
}

// xattrs writes the extended attributes of an inode: what is shared by
// reference, then its own.
func (e *emitter) xattrs(in *inode) {
	if in.xattrs == 0 {
		return
	}
	list := e.attrs.of(e.im, in)
	filter := ^uint32(0)
	for i := range list {
		filter &^= 1 << (xxh32(list[i].suffix, 0x25bbe08f+uint32(list[i].index)) & 31)
	}
	own, refs := e.im.sharing.split(list, e.refs)
	e.refs = refs

	b := e.buf[:xattrHeadSize]
	clear(b)
	binary.LittleEndian.PutUint32(b, filter)
	b[4] = uint8(len(refs))
	e.write(b)
	for _, offset := range refs {
		// Counted in words from the block in which the shared table begins.
		binary.LittleEndian.PutUint32(b, uint32((e.im.inodesEnd%blockSize+offset)/4))
		e.write(b[:4])
	}
	for i := range own {
		e.attribute(&own[i])
	}
}

func (e *emitter) attribute(a *attribute) {
	b := e.buf[:xattrEntrySize]
	b[0], b[1] = uint8(len(a.suffix)), a.index
	binary.LittleEndian.PutUint16(b[2:], uint16(len(a.value)))
	e.write(b)
	e.writeString(a.suffix)
	e.write(a.value)
	e.align(4)
}

// tail writes the data that stands beside an inode.
func (e *emitter) tail(i int) {
	in := &e.im.inodes[i]
	n := in.node
	if in.tail == 0 {
		return
	}
	switch {
	case n.IsDir():
		e.directory(i, false)
	case n.IsSymlink():
		e.writeString(n.Target)
	case isExternal(n):
		e.holes(int(in.tail) / chunkSize)
	default:
		e.write(n.Inline[len(n.Inline)-int(in.tail):])
	}
}

// data writes the data of an inode that fills blocks.
func (e *emitter) data(i int) {
	in := &e.im.inodes[i]
	n := in.node
	if in.blocks == 0 {
		return
	}
	switch {
	case n.IsDir():
		e.directory(i, true)
		return
	case n.IsSymlink():
		e.writeString(n.Target)
	case isExternal(n):
		e.holes(maxChunks)
	default:
		e.write(n.Inline[:min(len(n.Inline), int(in.blocks)*blockSize)])
	}
	e.align(blockSize)
}

// holes writes a list of chunks that are nowhere: the content is an object.
func (e *emitter) holes(count int) {
	b := e.buf[:chunkSize]
	binary.LittleEndian.PutUint32(b, noBlock)
	for range count {
		e.write(b)
	}
}

// directory writes either the whole blocks of a directory or its tail.
func (e *emitter) directory(i int, whole bool) {
	in := &e.im.inodes[i]
	block, length := uint32(0), 0
	e.entries = e.entries[:0]
	flush := func() {
		if whole == (block < in.blocks) {
			e.directoryBlock()
		}
		if whole {
			e.align(blockSize)
		}
		block++
		length = 0
		e.entries = e.entries[:0]
	}
	e.im.entries(i, func(x entry) {
		if length+direntSize+len(x.name) > blockSize {
			flush()
		}
		length += direntSize + len(x.name)
		e.entries = append(e.entries, x)
	})
	flush()
}

// directoryBlock writes entries: first all that is of fixed length, then the names.
func (e *emitter) directoryBlock() {
	b := e.buf[:direntSize]
	clear(b)
	nameAt := len(e.entries) * direntSize
	for _, x := range e.entries {
		binary.LittleEndian.PutUint64(b, x.nid)
		binary.LittleEndian.PutUint16(b[8:], uint16(nameAt))
		b[10] = x.kind
		e.write(b)
		nameAt += len(x.name)
	}
	for _, x := range e.entries {
		e.writeString(x.name)
	}
}
