package medium

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
)

// Superblock is the head of a dm-verity tree as veritysetup writes it
// (cryptsetup's lib/verity/verity.c, struct verity_sb), with the parameters that
// are the only ones here: version 1, normal hashes, sha256, data and hash blocks
// of 4096 bytes, no salt.
type Superblock struct {
	UUID       gpt.UUID
	DataBlocks int64 // number of blocks that the tree covers, from the payload's beginning
	Offset     int64 // of the superblock in the payload, bytes
}

// DataSize is the size of the file system in bytes.
func (s Superblock) DataSize() int64 { return s.DataBlocks * BlockSize }

// TreeOffset is where the tree itself begins, in bytes: one block after the
// superblock. A dm-verity table counts it in hash blocks.
func (s Superblock) TreeOffset() int64 { return s.Offset + BlockSize }

// TreeBlocks is the number of blocks of the tree, level by level.
func (s Superblock) TreeBlocks() int64 {
	const perBlock = BlockSize / 32
	var sum int64
	for n := s.DataBlocks; n > 1; {
		n = (n + perBlock - 1) / perBlock
		sum += n
	}
	return sum
}

// End is the first byte behind the tree.
func (s Superblock) End() int64 { return s.TreeOffset() + s.TreeBlocks()*BlockSize }

// Places and values in the superblock, little-endian.
const (
	superblockSize    = 512
	sbVersion         = 8
	sbHashType        = 12
	sbUUID            = 16
	sbAlgorithm       = 32
	sbDataBlockSize   = 64
	sbHashBlockSize   = 68
	sbDataBlocks      = 72
	sbSaltSize        = 80
	superblockMagic   = "verity\x00\x00"
	superblockHash    = "sha256"
	maxPayloadBlocks  = MaxSize / BlockSize
	superblockVersion = 1
	normalHashes      = 1
)

// ReadSuperblock reads the superblock at off, and refuses every other than those
// that Ashlar writes. Nothing in it can be believed but that it is well formed: what
// proves a payload is its root hash.
func ReadSuperblock(r io.ReaderAt, off int64) (s Superblock, err error) {
	b := make([]byte, superblockSize)
	if _, err := r.ReadAt(b, off); err != nil && err != io.EOF {
		return s, fmt.Errorf("reading the payload's verity superblock: %w", err)
	}
	if s, err = parseSuperblock(b); err != nil {
		return s, fmt.Errorf("reading the payload's verity superblock: %w", err)
	}
	s.Offset = off
	return s, nil
}

func parseSuperblock(b []byte) (s Superblock, err error) {
	if string(b[:sbVersion]) != superblockMagic {
		return s, fmt.Errorf("it does not begin with %q", superblockMagic)
	}
	le := binary.LittleEndian
	for _, f := range []struct {
		name      string
		got, want uint32
	}{
		{"version", le.Uint32(b[sbVersion:]), superblockVersion},
		{"hash type", le.Uint32(b[sbHashType:]), normalHashes},
		{"data block size", le.Uint32(b[sbDataBlockSize:]), BlockSize},
		{"hash block size", le.Uint32(b[sbHashBlockSize:]), BlockSize},
		{"salt size", uint32(le.Uint16(b[sbSaltSize:])), 0},
	} {
		if f.got != f.want {
			return s, fmt.Errorf("field %q is %d, want %d", f.name, f.got, f.want)
		}
	}
	algorithm := b[sbAlgorithm:sbDataBlockSize]
	if name, rest, _ := bytes.Cut(algorithm, []byte{0}); string(name) != superblockHash || !zero(rest) {
		return s, fmt.Errorf("field %q is %q, want %q", "algorithm", bytes.TrimRight(algorithm, "\x00"), superblockHash)
	}
	n := le.Uint64(b[sbDataBlocks:])
	if n == 0 || n > maxPayloadBlocks {
		return s, fmt.Errorf("field %q is %d, want 1 to %d", "data blocks", n, int64(maxPayloadBlocks))
	}
	if !zero(b[sbSaltSize+2:]) {
		return s, fmt.Errorf("it has something where nothing is expected")
	}
	s.DataBlocks = int64(n)
	copy(s.UUID[:], b[sbUUID:])
	return s, nil
}

// Where the file system of the payload says how long it is: the superblock of
// EROFS (Linux fs/erofs/erofs_fs.h) has its magic, the logarithm of the block size and
// the number of blocks.
const (
	erofsSuper     = 1024
	erofsMagic     = 0xe0f5e1e2
	erofsBlockBits = 12
	erofsBlocks    = 36
)

// ReadPayload finds the hash tree in a payload of so many bytes: right behind the
// file system, whose own superblock says where that is. See ReadSuperblock for what
// that proves.
func ReadPayload(r io.ReaderAt, size int64) (s Superblock, err error) {
	b := make([]byte, 128)
	if _, err := r.ReadAt(b, erofsSuper); err != nil {
		return s, fmt.Errorf("reading the payload: %w", err)
	}
	if magic := binary.LittleEndian.Uint32(b); magic != erofsMagic {
		return s, fmt.Errorf("reading the payload: it has no EROFS (magic number %08x, want %08x)", magic, uint32(erofsMagic))
	}
	if bits := b[erofsBlockBits]; bits != 12 {
		return s, fmt.Errorf("reading the payload: its blocks have 2^%d bytes, want %d", bits, BlockSize)
	}
	blocks := int64(binary.LittleEndian.Uint32(b[erofsBlocks:]))
	if s, err = ReadSuperblock(r, blocks*BlockSize); err != nil {
		return s, err
	}
	switch {
	case s.DataBlocks != blocks:
		return s, fmt.Errorf("reading the payload: its hash tree is for %d blocks, and its file system has %d", s.DataBlocks, blocks)
	case s.End() > size:
		return s, fmt.Errorf("reading the payload: it has %d bytes, and its hash tree ends at %d", size, s.End())
	}
	return s, nil
}

// zero says whether b is nothing but zeros.
func zero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }
