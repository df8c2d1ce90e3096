package composefs

import "encoding/binary"

// Sizes and places in the file.
const (
	blockSize      = 4096
	slotSize       = 32 // inodes begin at multiples of it; a nid counts slots
	headerSize     = 32
	superOffset    = 1024
	superSize      = 128
	firstInode     = superOffset + superSize
	compactSize    = 32
	extendedSize   = 64
	direntSize     = 12
	xattrEntrySize = 4
	xattrHeadSize  = 12
	chunkSize      = 4 // one chunk's address
)

// Numbers of the composefs header and of the EROFS superblock
// (fs/erofs/erofs_fs.h in the kernel's source).
const (
	composefsMagic = 0xd078629a
	headerVersion  = 1
	flagACL        = 1

	erofsMagic        = 0xe0f5e1e2
	compatMtime       = 1 << 1
	compatXattrFilter = 1 << 2
	blockBits         = 12
)

// Layouts of an inode's data, bits 1 to 3 of i_format; bit 0 is set for the
// extended form.
const (
	layoutPlain  = 0
	layoutInline = 2
	layoutChunks = 4
)

const (
	noBlock       = 0xffffffff // the address of a chunk that is a hole
	maxChunkBits  = blockBits + 31
	maxChunks     = blockSize / chunkSize
	maxSharedRefs = 128 // EROFS_XATTR_LONG_PREFIX
	halfBlock     = blockSize / 2
)

// Limits on what a tree may hold, the same as mkcomposefs has.
const (
	maxName      = 255
	maxPath      = 4095 // Linux' PATH_MAX without the final zero
	maxTarget    = 4095
	maxInline    = 5000
	maxXattrName = 255
	maxXattrs    = 32767 // bytes of all of an inode's extended attributes, see xattrCost
)

// File types in directory entries.
const (
	entryRegular = 1 + iota
	entryDir
	entryChar
	entryBlock
	entryFIFO
	entrySocket
	entrySymlink
)

// xattrPrefixes shorten the keys of extended attributes; the index goes into the
// entry. A key that begins with none of them has index 0.
var xattrPrefixes = [...]struct {
	prefix string
	index  uint8
}{
	{"user.", 1},
	{"system.posix_acl_access", 2},
	{"system.posix_acl_default", 3},
	{"trusted.", 4},
	{"security.", 6},
}

// superblock is what varies between images.
type superblock struct {
	rootNID   uint16
	inodes    uint64
	buildSec  int64
	buildNsec uint32
	blocks    uint32
	xattrAddr uint32 // in blocks
}

// encode returns the first 1152 bytes of an image.
func (s *superblock) encode(version int, flags uint32) []byte {
	b := make([]byte, firstInode)
	le := binary.LittleEndian
	le.PutUint32(b[0:], composefsMagic)
	le.PutUint32(b[4:], headerVersion)
	le.PutUint32(b[8:], flags)
	le.PutUint32(b[12:], uint32(version))

	e := b[superOffset:]
	le.PutUint32(e[0:], erofsMagic)
	le.PutUint32(e[8:], compatMtime|compatXattrFilter)
	e[12] = blockBits
	le.PutUint16(e[14:], s.rootNID)
	le.PutUint64(e[16:], s.inodes)
	le.PutUint64(e[24:], uint64(s.buildSec))
	le.PutUint32(e[32:], s.buildNsec)
	le.PutUint32(e[36:], s.blocks)
	le.PutUint32(e[44:], s.xattrAddr)
	return b
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }
