package composefs

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// Objects lists the distinct objects that an image needs, in inode order: the
// same list as (*tree.Tree).Objects of what Read gives. It reads the inodes one
// after the other and builds no tree, so that a machine with little memory can
// update to a large image.
func Objects(r io.ReaderAt, size int64) ([]tree.Object, error) {
	h, err := ReadHeader(r, size)
	if err != nil {
		return nil, err
	}
	s := &scanner{Header: h, file: r, pos: firstInode, shared: make(map[int64]verity.Digest),
		r: bufio.NewReaderSize(io.NewSectionReader(r, firstInode, size-firstInode), 512<<10)}
	var list []tree.Object
	seen := make(map[verity.Digest]struct{})
	for i := range h.Inodes {
		size, digest, err := s.next(uint32(i))
		if err != nil {
			return nil, fmt.Errorf("the image is damaged: inode %d: %w", i, err)
		}
		if digest.IsZero() {
			continue
		}
		if _, known := seen[digest]; !known {
			seen[digest] = struct{}{}
			list = append(list, tree.Object{Digest: digest, Size: size})
		}
	}
	return list, nil
}

// scanner reads inodes in the order in which they stand in the image.
type scanner struct {
	Header
	file   io.ReaderAt
	r      *bufio.Reader
	pos    int64                   // of r
	shared map[int64]verity.Digest // by offset; zero for other attributes than a digest
}

// next returns the size and the object of inode number ino; the digest is zero
// for what has no object.
func (s *scanner) next(ino uint32) (uint64, verity.Digest, error) {
	b, err := s.skipPadding()
	if err != nil {
		return 0, verity.Digest{}, err
	}
	raw, err := s.decodeInode(b, s.pos)
	if err != nil {
		return 0, verity.Digest{}, err
	}
	if raw.ino != ino {
		return 0, verity.Digest{}, fmt.Errorf("it has the number %d", raw.ino)
	}
	b, err = s.r.Peek(int(raw.head + raw.xattrs))
	if err != nil {
		return 0, verity.Digest{}, cutOff(err)
	}
	var digest verity.Digest
	if raw.mode&tree.TypeMask == tree.TypeRegular && raw.layout == layoutChunks && raw.size > 0 {
		if digest, err = s.digest(b[raw.head:]); err != nil {
			return 0, verity.Digest{}, err
		}
	}
	return raw.size, digest, s.leave(&raw)
}

// skipPadding goes to the next slot that is not all zero and looks at what is
// there. No inode begins with 32 zeros, since none has the mode 0.
func (s *scanner) skipPadding() ([]byte, error) {
	if err := s.discard(roundUp(s.pos, slotSize) - s.pos); err != nil {
		return nil, err
	}
	for {
		b, err := s.r.Peek(extendedSize)
		if len(b) < slotSize {
			return nil, cutOff(err)
		}
		if !bytes.Equal(b[:slotSize], zeros[:slotSize]) {
			return b, nil
		}
		if err := s.discard(slotSize); err != nil {
			return nil, err
		}
	}
}

// leave goes to the end of an inode and of the data beside it.
func (s *scanner) leave(raw *rawInode) error {
	if err := s.discard(raw.head + raw.xattrs); err != nil {
		return err
	}
	switch {
	case raw.layout == layoutInline:
		return s.discard(int64(raw.size % blockSize))
	case raw.layout == layoutChunks && raw.size > 0:
		_, count := chunks(raw.size)
		if count > maxChunks {
			return fmt.Errorf("size %d is more than an image can say of a file", raw.size)
		}
		// A long list may have had to leave the inode. An inode that follows
		// in its place does not begin with a hole.
		if b, _ := s.r.Peek(chunkSize); len(b) == chunkSize && binary.LittleEndian.Uint32(b) == noBlock {
			return s.discard(int64(count) * chunkSize)
		}
	}
	return nil
}

func (s *scanner) discard(n int64) error {
	done, err := s.r.Discard(int(n))
	s.pos += int64(done)
	return cutOff(err)
}

func cutOff(err error) error {
	if err == io.EOF {
		return errors.New("it is cut off")
	}
	return err
}

// digest finds the object's digest among the extended attributes of a file.
func (s *scanner) digest(b []byte) (verity.Digest, error) {
	if len(b) < xattrHeadSize || xattrHeadSize+4*int(b[4]) > len(b) {
		return verity.Digest{}, fmt.Errorf("its content is elsewhere, but there is no %q", keyMetacopy)
	}
	refs := b[xattrHeadSize : xattrHeadSize+4*int(b[4])]
	for b = b[xattrHeadSize+len(refs):]; len(b) > 0; {
		x, n, err := decodeXattr(b)
		if err != nil {
			return verity.Digest{}, err
		}
		if x.Key == keyMetacopy {
			return decodeMetacopy(x.Value)
		}
		b = b[n:]
	}
	for ; len(refs) > 0; refs = refs[4:] {
		digest, err := s.sharedDigest(s.xattrBase + 4*int64(binary.LittleEndian.Uint32(refs)))
		if err != nil || !digest.IsZero() {
			return digest, err
		}
	}
	return verity.Digest{}, nil
}

// sharedDigest looks at an entry of the shared table, where the digests of
// objects are that several inodes have. It reads no more than a digest needs.
func (s *scanner) sharedDigest(offset int64) (digest verity.Digest, err error) {
	if digest, known := s.shared[offset]; known {
		return digest, nil
	}
	const suffix = "overlay.metacopy"
	var b [xattrEntrySize + len(suffix) + 4 + verity.Size]byte
	if n, err := s.file.ReadAt(b[:], offset); n < xattrEntrySize {
		return digest, cutOff(err)
	}
	if b[0] == byte(len(suffix)) && b[1] == 4 && string(b[xattrEntrySize:xattrEntrySize+len(suffix)]) == suffix {
		value := b[xattrEntrySize+len(suffix):]
		length := min(int(binary.LittleEndian.Uint16(b[2:])), len(value)+1)
		if length > len(value) {
			return digest, fmt.Errorf("%q does not hold a sha256 digest", keyMetacopy)
		}
		if digest, err = decodeMetacopy(value[:length]); err != nil {
			return digest, err
		}
	}
	s.shared[offset] = digest
	return digest, nil
}
