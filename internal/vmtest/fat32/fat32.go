package fat32

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
)

var le = binary.LittleEndian

const (
	sector     = 512
	slotSize   = 32
	deleted    = 0xe5
	attrVolume = 0x08
	attrDir    = 0x10
	attrLong   = 0x0f
	lastLong   = 0x40

	entryMask  = 0x0fffffff
	endOfChain = 0x0ffffff8

	// Limits, generous for an ESP.
	maxTable = 64 << 20
	maxFiles = 1 << 16
	maxDepth = 16
)

// FS is a file system, as it was when it was opened.
type FS struct {
	r        io.ReaderAt
	cluster  int64 // bytes
	data     int64 // where cluster 2 begins
	table    []byte
	clusters uint32
	files    []*File
	owner    map[uint32]*File // of each cluster in use
}

// File is a file or directory.
type File struct {
	Path string // "EFI/Linux/x.efi"
	Dir  bool
	Size int64
	Err  error // why it cannot be read, or not all of it

	first uint32
	chain []uint32
	fs    *FS
}

// Open reads the allocation table and all directories. A file that cannot be read
// has that for its Err; a directory's damage is one of the directory.
func Open(r io.ReaderAt) (*FS, error) {
	b := make([]byte, sector)
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("reading the boot sector: %w", err)
	}
	perCluster, reserved, tables := int64(b[13]), int64(le.Uint16(b[14:])), int64(b[16])
	total, tableSectors := int64(le.Uint32(b[32:])), int64(le.Uint32(b[36:]))
	if le.Uint16(b[11:]) != sector || b[510] != 0x55 || b[511] != 0xaa || perCluster == 0 || tables == 0 || tableSectors == 0 {
		return nil, errors.New("there is no FAT32 with sectors of 512 bytes")
	}
	f := &FS{r: r, cluster: perCluster * sector, data: (reserved + tables*tableSectors) * sector, owner: make(map[uint32]*File)}
	count := (total*sector - f.data) / f.cluster
	if tableSectors*sector > maxTable || count < 1 || (count+2)*4 > tableSectors*sector {
		return nil, fmt.Errorf("there are %d clusters and %d sectors of table", count, tableSectors)
	}
	f.clusters = uint32(count)
	f.table = make([]byte, (count+2)*4)
	if _, err := r.ReadAt(f.table, reserved*sector); err != nil {
		return nil, fmt.Errorf("reading the allocation table: %w", err)
	}
	root := &File{Path: ".", Dir: true, fs: f}
	f.follow(root, le.Uint32(b[44:]), 0)
	if err := f.read(root, 0); err != nil {
		return nil, err
	}
	return f, nil
}

// Files lists everything, directories included.
func (f *FS) Files() []*File { return f.files }

// Lookup finds a file by its exact path, or nil.
func (f *FS) Lookup(name string) *File {
	i := slices.IndexFunc(f.files, func(file *File) bool { return file.Path == name })
	if i < 0 {
		return nil
	}
	return f.files[i]
}

// follow finds the clusters of a file: need of them, or as many as there are.
func (f *FS) follow(file *File, first uint32, need int64) {
	for c := first; ; {
		if c < 2 || c >= f.clusters+2 {
			file.Err = fmt.Errorf("its chain goes to cluster %d after %d of %d", c, len(file.chain), need)
			return
		}
		if other := f.owner[c]; other != nil {
			file.Err = fmt.Errorf("its cluster %d is one of %q", c, other.Path)
			if other.Err == nil {
				other.Err = fmt.Errorf("its cluster %d is one of %q", c, file.Path)
			}
			return
		}
		f.owner[c] = file
		file.chain = append(file.chain, c)
		if int64(len(file.chain)) == need {
			return
		}
		c = le.Uint32(f.table[c*4:]) & entryMask
		if c >= endOfChain {
			if int64(len(file.chain)) < need {
				file.Err = fmt.Errorf("its chain ends after %d clusters of %d", len(file.chain), need)
			}
			return
		}
	}
}

// read lists a directory and all below it.
func (f *FS) read(dir *File, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("directory %q is too deep", dir.Path)
	}
	var long longName
	block := make([]byte, f.cluster)
	for _, c := range dir.chain {
		if _, err := f.r.ReadAt(block, f.offset(c)); err != nil {
			return fmt.Errorf("reading directory %q: %w", dir.Path, err)
		}
		for at := 0; at < len(block); at += slotSize {
			slot := block[at : at+slotSize]
			switch {
			case slot[0] == 0:
				return nil
			case slot[0] == deleted:
				long = longName{}
			case slot[11]&0x3f == attrLong:
				long.add(slot)
			case slot[11]&attrVolume != 0:
				long = longName{}
			default:
				name := long.name(slot)
				long = longName{}
				if name == "." || name == ".." {
					continue
				}
				if len(f.files) == maxFiles {
					return fmt.Errorf("there are more than %d files", maxFiles)
				}
				file := f.file(path.Join(dir.Path, name), slot)
				f.files = append(f.files, file)
				if file.Dir {
					if err := f.read(file, depth+1); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// file is what a slot describes.
func (f *FS) file(name string, slot []byte) *File {
	file := &File{Path: name, Dir: slot[11]&attrDir != 0, Size: int64(le.Uint32(slot[28:])), fs: f}
	first := uint32(le.Uint16(slot[20:]))<<16 | uint32(le.Uint16(slot[26:]))
	file.first = first
	switch {
	case file.Dir:
		f.follow(file, first, 0)
	case file.Size > 0:
		f.follow(file, first, (file.Size+f.cluster-1)/f.cluster)
	}
	return file
}

func (f *FS) offset(cluster uint32) int64 { return f.data + int64(cluster-2)*f.cluster }

// ReadAll reads a file.
func (file *File) ReadAll() ([]byte, error) {
	if file.Err != nil {
		return nil, fmt.Errorf("reading %q: %w", file.Path, file.Err)
	}
	b := make([]byte, file.Size)
	for _, r := range file.Ranges() {
		part := b[r.file:min(r.file+r.Length, file.Size)]
		if n, err := file.fs.r.ReadAt(part, r.At); n < len(part) {
			return nil, fmt.Errorf("reading %q: %w", file.Path, err)
		}
	}
	return b, nil
}

// Shared is ReadAll also of a file whose clusters another name leads to as well: after a
// cut both names of one that was renamed may be there. Firmware does not mind.
func (file *File) Shared() ([]byte, error) {
	alone := *file
	alone.fs = &FS{r: file.fs.r, cluster: file.fs.cluster, data: file.fs.data, table: file.fs.table, clusters: file.fs.clusters, owner: make(map[uint32]*File)}
	alone.chain, alone.Err = nil, nil
	if alone.Size > 0 {
		alone.fs.follow(&alone, file.first, (file.Size+file.fs.cluster-1)/file.fs.cluster)
	}
	return alone.ReadAll()
}

// Range is a range of the file system, in bytes.
type Range struct{ At, Length, file int64 }

// Ranges lists where a file's content is.
func (file *File) Ranges() (list []Range) {
	size := file.fs.cluster
	for i, c := range file.chain {
		if n := len(list); n > 0 && list[n-1].At+list[n-1].Length == file.fs.offset(c) {
			list[n-1].Length += size
		} else {
			list = append(list, Range{file.fs.offset(c), size, int64(i) * size})
		}
	}
	return list
}
