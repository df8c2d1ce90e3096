package composefs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// rawInode is an inode as the image has it.
type rawInode struct {
	offset int64 // in the image
	head   int64 // 32 or 64
	xattrs int64 // bytes
	layout int
	mode   uint32
	nlink  uint32
	size   uint64
	union  uint32
	ino    uint32
	uid    uint32
	gid    uint32
	mtime  tree.Time
}

// inode decodes the inode of a nid. It is cheap and uses up no budget, since
// every hard link leads here.
func (d *decoder) inode(nid uint64) (rawInode, error) {
	if nid > uint64(len(d.b))/slotSize {
		return rawInode{}, fmt.Errorf("nid %d is outside of the file", nid)
	}
	offset := int64(nid) * slotSize
	b, err := d.at(offset, min(extendedSize, int64(len(d.b))-offset))
	if err != nil {
		return rawInode{}, err
	}
	return d.decodeInode(b, offset)
}

// decodeInode decodes the inode that b begins with.
func (h *Header) decodeInode(b []byte, offset int64) (raw rawInode, err error) {
	raw.offset = offset
	raw.head = compactSize
	le := binary.LittleEndian
	if len(b) >= compactSize && b[0]&1 != 0 {
		raw.head = extendedSize
	}
	if int64(len(b)) < raw.head {
		return raw, fmt.Errorf("the inode at %d is cut off", offset)
	}
	format := le.Uint16(b)
	if raw.layout = int(format >> 1); raw.layout > 7 {
		return raw, fmt.Errorf("the inode at %d has the format %#x", offset, format)
	}
	if n := le.Uint16(b[2:]); n > 0 {
		raw.xattrs = xattrHeadSize + 4*(int64(n)-1)
	}
	raw.mode = uint32(le.Uint16(b[4:]))
	raw.union = le.Uint32(b[16:])
	raw.ino = le.Uint32(b[20:])
	if raw.head == compactSize {
		raw.nlink = uint32(le.Uint16(b[6:]))
		raw.size = uint64(le.Uint32(b[8:]))
		raw.uid, raw.gid = uint32(le.Uint16(b[24:])), uint32(le.Uint16(b[26:]))
		raw.mtime = h.build
		return raw, nil
	}
	raw.size = le.Uint64(b[8:])
	raw.uid, raw.gid = le.Uint32(b[24:]), le.Uint32(b[28:])
	raw.mtime = tree.Time{Sec: int64(le.Uint64(b[32:])), Nsec: le.Uint32(b[40:])}
	raw.nlink = le.Uint32(b[44:])
	return raw, nil
}

// node makes a node of an inode that was not met before.
func (d *decoder) node(name string, raw *rawInode) (*tree.Node, error) {
	if err := d.use(raw.head + raw.xattrs); err != nil {
		return nil, err
	}
	n := &tree.Node{Name: name, Mode: raw.mode, Nlink: raw.nlink, UID: raw.uid, GID: raw.gid, Mtime: raw.mtime}
	external := false
	switch raw.mode & tree.TypeMask {
	case tree.TypeChar, tree.TypeBlock:
		n.Rdev = raw.union
	case tree.TypeSymlink:
		if raw.size > maxTarget {
			return nil, fmt.Errorf("the symbolic link's target has %d bytes", raw.size)
		}
		target, err := d.data(raw)
		if err != nil {
			return nil, err
		}
		n.Target, n.Size = string(target), raw.size
	case tree.TypeRegular:
		n.Size = raw.size
		if external = raw.layout == layoutChunks; external || raw.size == 0 {
			break
		}
		if raw.size > maxInline {
			return nil, fmt.Errorf("the inline content has %d bytes, at most %d are possible", raw.size, maxInline)
		}
		content, err := d.data(raw)
		if err != nil {
			return nil, err
		}
		n.Inline = bytes.Clone(content)
	}
	if external && raw.size == 0 {
		return nil, errors.New("an empty file has chunks")
	}
	if err := d.xattrs(n, raw, external); err != nil {
		return nil, err
	}
	return n, checkInode(n)
}

// data returns the data of an inode that is in the image.
func (d *decoder) data(raw *rawInode) ([]byte, error) {
	if raw.size > uint64(len(d.b)) {
		return nil, fmt.Errorf("it has %d bytes of data, more than the image", raw.size)
	}
	size := int64(raw.size)
	if err := d.use(size); err != nil {
		return nil, err
	}
	switch raw.layout {
	case layoutPlain:
		return d.at(int64(raw.union)*blockSize, size)
	case layoutInline:
		whole := size / blockSize * blockSize
		tail, err := d.at(raw.offset+raw.head+raw.xattrs, size-whole)
		if err != nil || whole == 0 {
			return tail, err
		}
		b, err := d.at(int64(raw.union)*blockSize, whole)
		if err != nil {
			return nil, err
		}
		return append(bytes.Clone(b), tail...), nil
	}
	return nil, fmt.Errorf("its data has the layout %d", raw.layout)
}

// dirents calls yield for each entry of a directory.
func (d *decoder) dirents(raw *rawInode, yield func(name string, nid uint64, kind uint8) error) error {
	if raw.size == 0 {
		return nil
	}
	data, err := d.data(raw)
	if err != nil {
		return err
	}
	for len(data) > 0 {
		block := data[:min(blockSize, len(data))]
		data = data[len(block):]
		if err := blockDirents(block, yield); err != nil {
			return err
		}
	}
	return nil
}

func blockDirents(block []byte, yield func(name string, nid uint64, kind uint8) error) error {
	if len(block) < direntSize {
		return fmt.Errorf("a block of entries has %d bytes", len(block))
	}
	le := binary.LittleEndian
	names := int(le.Uint16(block[8:]))
	if names < direntSize || names%direntSize != 0 || names > len(block) {
		return fmt.Errorf("the names of a block of entries begin at %d", names)
	}
	for at := 0; at < names; at += direntSize {
		e := block[at:]
		begin, end := int(le.Uint16(e[8:])), len(block)
		if at+direntSize < names {
			end = int(le.Uint16(e[direntSize+8:]))
		} else if begin <= end {
			// The last name of a block ends where the zeros begin.
			if zero := bytes.IndexByte(block[begin:], 0); zero >= 0 {
				end = begin + zero
			}
		}
		if begin < names || begin > end || end > len(block) {
			return fmt.Errorf("a name goes from %d to %d in a block of %d", begin, end, len(block))
		}
		if err := yield(string(block[begin:end]), le.Uint64(e), e[10]); err != nil {
			return err
		}
	}
	return nil
}
