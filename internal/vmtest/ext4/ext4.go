package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"
)

var le = binary.LittleEndian

// Incompatible features (s_feature_incompat).
const (
	featureFiletype = 0x0002
	featureExtents  = 0x0040
	feature64Bit    = 0x0080
	featureFlexBG   = 0x0200
	featureSeed     = 0x2000
	featuresKnown   = featureFiletype | featureExtents | feature64Bit | featureFlexBG | featureSeed

	featureRecover = 0x0004 // the journal is not empty
)

const (
	superOffset = 1024
	rootInode   = 2
	maxBlocks   = 1 << 32
)

// featureChecksums is metadata_csum in s_feature_ro_compat.
const featureChecksums = 0x0400

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrSuperblock says that the superblock has another checksum than it says: Linux
// does not mount such a file system.
var ErrSuperblock = errors.New("the superblock's checksum is wrong")

// FS is a file system.
type FS struct {
	r              io.ReaderAt
	blockSize      int64
	blocks         int64
	inodes         uint32
	inodesPerGroup uint32
	inodeSize      int64
	descSize       int64
	groups         []byte // the descriptors
	cached         map[int64][]byte
}

// Open reads the superblock and the group descriptors.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	b := make([]byte, 1024)
	if _, err := r.ReadAt(b, superOffset); err != nil {
		return nil, fmt.Errorf("reading the superblock: %w", err)
	}
	if le.Uint16(b[0x38:]) != 0xef53 {
		return nil, errors.New("there is no ext4")
	}
	if le.Uint32(b[0x64:])&featureChecksums != 0 && ^crc32.Checksum(b[:0x3fc], castagnoli) != le.Uint32(b[0x3fc:]) {
		return nil, ErrSuperblock
	}
	incompat := le.Uint32(b[0x60:])
	if incompat&featureRecover != 0 {
		return nil, errors.New("the journal was not replayed")
	}
	if unknown := incompat &^ featuresKnown; unknown != 0 {
		return nil, fmt.Errorf("the file system has features %#x that this reader does not know", unknown)
	}
	shift := le.Uint32(b[0x18:])
	if shift > 6 {
		return nil, fmt.Errorf("the block size has exponent %d", shift)
	}
	f := &FS{
		r: r, blockSize: 1024 << shift, inodes: le.Uint32(b), inodesPerGroup: le.Uint32(b[0x28:]),
		inodeSize: int64(le.Uint16(b[0x58:])), descSize: 32, cached: make(map[int64][]byte),
	}
	f.blocks = int64(le.Uint32(b[0x04:]))
	if incompat&feature64Bit != 0 {
		f.blocks |= int64(le.Uint32(b[0x150:])) << 32
		f.descSize = int64(le.Uint16(b[0xfe:]))
	}
	perGroup, first := int64(le.Uint32(b[0x20:])), int64(le.Uint32(b[0x14:]))
	switch {
	case f.blocks > maxBlocks || f.blocks*f.blockSize > size:
		return nil, fmt.Errorf("%d blocks of %d bytes do not fit into %d bytes", f.blocks, f.blockSize, size)
	case f.inodeSize < 128 || f.inodeSize > f.blockSize || f.descSize < 32 || f.descSize > f.blockSize:
		return nil, fmt.Errorf("inodes have %d bytes, group descriptors %d", f.inodeSize, f.descSize)
	case perGroup == 0 || f.inodesPerGroup == 0 || first > 1 || f.inodes == 0:
		return nil, fmt.Errorf("a group has %d blocks and %d inodes", perGroup, f.inodesPerGroup)
	}
	n := (f.blocks - first + perGroup - 1) / perGroup
	if n > f.blocks {
		return nil, fmt.Errorf("there are %d groups", n)
	}
	f.groups = make([]byte, n*f.descSize)
	if _, err := r.ReadAt(f.groups, (first+1)*f.blockSize); err != nil {
		return nil, fmt.Errorf("reading the group descriptors: %w", err)
	}
	return f, nil
}

// block reads a block of metadata, and keeps it.
func (f *FS) block(n int64) ([]byte, error) {
	if b := f.cached[n]; b != nil {
		return b, nil
	}
	if n <= 0 || n >= f.blocks {
		return nil, fmt.Errorf("block %d is beyond the file system", n)
	}
	b := make([]byte, f.blockSize)
	if _, err := f.r.ReadAt(b, n*f.blockSize); err != nil {
		return nil, err
	}
	f.cached[n] = b
	return b, nil
}

// inode flags and types
const (
	flagVerity  = 0x00100000
	flagExtents = 0x00080000
	flagInline  = 0x10000000
	flagCrypted = 0x00000800

	typeMask = 0xf000
	typeDir  = 0x4000
	typeFile = 0x8000
)

// File is a file or a directory.
type File struct {
	Inode uint32
	Mode  uint16 // type and permissions, as in st_mode
	Size  int64
	flags uint32
	root  [60]byte // i_block
	fs    *FS
}

// Dir reports whether it is a directory.
func (f *File) Dir() bool { return f.Mode&typeMask == typeDir }

// Regular reports whether it is a plain file.
func (f *File) Regular() bool { return f.Mode&typeMask == typeFile }

// Sealed reports whether the file has fs-verity.
func (f *File) Sealed() bool { return f.flags&flagVerity != 0 }

func (f *FS) inode(n uint32) (*File, error) {
	if n == 0 || n > f.inodes {
		return nil, fmt.Errorf("there is no inode %d", n)
	}
	group, index := int64((n-1)/f.inodesPerGroup), int64((n-1)%f.inodesPerGroup)
	if (group+1)*f.descSize > int64(len(f.groups)) {
		return nil, fmt.Errorf("inode %d is in group %d, which is not there", n, group)
	}
	desc := f.groups[group*f.descSize:]
	table := int64(le.Uint32(desc[8:]))
	if f.descSize >= 64 {
		table |= int64(le.Uint32(desc[0x28:])) << 32
	}
	at := index * f.inodeSize
	b, err := f.block(table + at/f.blockSize)
	if err != nil {
		return nil, fmt.Errorf("reading inode %d: %w", n, err)
	}
	b = b[at%f.blockSize:]
	file := &File{Inode: n, Mode: le.Uint16(b), flags: le.Uint32(b[0x20:]), fs: f}
	file.Size = int64(le.Uint32(b[4:])) | int64(le.Uint32(b[0x6c:]))<<32
	copy(file.root[:], b[0x28:])
	switch {
	case file.Mode == 0 || le.Uint16(b[0x1a:]) == 0:
		return nil, fmt.Errorf("inode %d is not in use", n)
	case file.Size < 0 || file.flags&(flagInline|flagCrypted) != 0:
		return nil, fmt.Errorf("inode %d has the size %d and the flags %#x", n, file.Size, file.flags)
	}
	return file, nil
}

// Lookup finds a file by its path from the root. No symbolic link is followed.
// What is not there is fs.ErrNotExist.
func (f *FS) Lookup(path string) (*File, error) {
	file, err := f.inode(rootInode)
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if err != nil || part == "" {
			break
		}
		var entries map[string]uint32
		if entries, err = file.entries(); err != nil {
			break
		}
		n, ok := entries[part]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		}
		file, err = f.inode(n)
	}
	if err != nil {
		return nil, fmt.Errorf("looking for %q: %w", path, err)
	}
	return file, nil
}

// Entries lists a directory: inodes by name, without "." and "..".
func (f *FS) Entries(path string) (map[string]uint32, error) {
	dir, err := f.Lookup(path)
	if err != nil {
		return nil, err
	}
	return dir.entries()
}

// Inode opens a file by its number, as Entries gives it.
func (f *FS) Inode(n uint32) (*File, error) { return f.inode(n) }

// entries reads all blocks of a directory in their order. Those of the hash tree
// look like blocks with one empty entry.
func (f *File) entries() (map[string]uint32, error) {
	if !f.Dir() {
		return nil, &fs.PathError{Op: "open", Path: fmt.Sprintf("inode %d", f.Inode), Err: fs.ErrNotExist}
	}
	extents, err := f.Extents()
	if err != nil {
		return nil, err
	}
	list := make(map[string]uint32)
	for _, e := range extents {
		for i := range e.Length {
			b, err := f.fs.block(e.Physical + i)
			if err != nil {
				return nil, err
			}
			if err := readEntries(b, list); err != nil {
				return nil, fmt.Errorf("directory of inode %d: %w", f.Inode, err)
			}
		}
	}
	return list, nil
}

func readEntries(b []byte, list map[string]uint32) error {
	for len(b) > 0 {
		if len(b) < 8 {
			return errors.New("an entry does not fit into its block")
		}
		inode, length, name := le.Uint32(b), int(le.Uint16(b[4:])), int(b[6])
		if length < 8+name || length > len(b) || length%4 != 0 {
			return fmt.Errorf("an entry has %d bytes, of %d, for a name of %d", length, len(b), name)
		}
		if s := string(b[8 : 8+name]); inode != 0 && s != "." && s != ".." {
			list[s] = inode
		}
		b = b[length:]
	}
	return nil
}
