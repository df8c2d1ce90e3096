package ext4

import (
	"errors"
	"fmt"
	"io"
)

// Extent is a part of a file that lies together on the disk, in blocks.
type Extent struct {
	Logical, Physical, Length int64
}

const (
	extentMagic   = 0xf30a
	maxDepth      = 5
	unwrittenFrom = 32768 // longer extents are allocated and not written
)

// Extents lists where the file's content is. Ranges that are missing, or not
// written, read as zeros.
func (f *File) Extents() (list []Extent, err error) {
	if f.flags&flagExtents == 0 {
		if f.Size == 0 {
			return nil, nil
		}
		return nil, fmt.Errorf("inode %d has no extents", f.Inode)
	}
	err = f.fs.extents(f.root[:], maxDepth, &list)
	if err != nil {
		return nil, fmt.Errorf("extents of inode %d: %w", f.Inode, err)
	}
	for i := range list {
		if i > 0 && list[i].Logical < list[i-1].Logical+list[i-1].Length {
			return nil, fmt.Errorf("extents of inode %d: they overlap", f.Inode)
		}
	}
	return list, nil
}

func (f *FS) extents(b []byte, deepest int, list *[]Extent) error {
	entries, depth := int(le.Uint16(b[2:])), int(le.Uint16(b[6:]))
	if le.Uint16(b) != extentMagic || 12+entries*12 > len(b) || depth > deepest {
		return fmt.Errorf("a node has %d entries in %d bytes and the depth %d", entries, len(b), depth)
	}
	for i := range entries {
		e := b[12+i*12:]
		if depth > 0 {
			child, err := f.block(int64(le.Uint32(e[4:])) | int64(le.Uint16(e[8:]))<<32)
			if err != nil {
				return err
			}
			if err := f.extents(child, depth-1, list); err != nil {
				return err
			}
			continue
		}
		x := Extent{Logical: int64(le.Uint32(e)), Length: int64(le.Uint16(e[4:])), Physical: int64(le.Uint16(e[6:]))<<32 | int64(le.Uint32(e[8:]))}
		if x.Length > unwrittenFrom {
			continue
		}
		if x.Physical <= 0 || x.Physical+x.Length > f.blocks {
			return fmt.Errorf("blocks %d to %d are beyond the file system", x.Physical, x.Physical+x.Length)
		}
		*list = append(*list, x)
	}
	return nil
}

// Range is a range of the file system, in bytes.
type Range struct{ At, Length int64 }

// Ranges lists where the file's content is, what fs-verity keeps behind it included.
func (f *File) Ranges() ([]Range, error) {
	extents, err := f.Extents()
	var list []Range
	for _, e := range extents {
		list = append(list, Range{e.Physical * f.fs.blockSize, e.Length * f.fs.blockSize})
	}
	return list, err
}

// ErrTooLarge is returned by ReadAll.
var ErrTooLarge = errors.New("the file is too large")

// ReadAll reads a file of at most limit bytes.
func (f *File) ReadAll(limit int64) ([]byte, error) {
	if f.Size > limit {
		return nil, fmt.Errorf("reading inode %d of %d bytes: %w", f.Inode, f.Size, ErrTooLarge)
	}
	b := make([]byte, f.Size)
	return b, f.readFrom(b, 0)
}

// readFrom fills b with what is at a place of the file, the end of which is
// ignored: fs-verity keeps its data behind it.
func (f *File) readFrom(b []byte, at int64) error {
	extents, err := f.Extents()
	if err != nil {
		return err
	}
	size := f.fs.blockSize
	for _, e := range extents {
		from, to := max(e.Logical*size, at), min((e.Logical+e.Length)*size, at+int64(len(b)))
		if from >= to {
			continue
		}
		part := b[from-at : to-at]
		if n, err := f.fs.r.ReadAt(part, e.Physical*size+from-e.Logical*size); n < len(part) && err != nil {
			return fmt.Errorf("reading inode %d: %w", f.Inode, errors.Join(err, io.ErrUnexpectedEOF))
		}
	}
	return nil
}
