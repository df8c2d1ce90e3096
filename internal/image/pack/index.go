package pack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sort"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// block is the unit of a tar, in bytes; frames and objects begin at multiples of it.
const block = 512

// MaxFrame is the largest number of bytes that one frame decompresses to.
const MaxFrame = 4 << 20

// MaxIndex is the largest encoded index that DecodeIndex takes, in bytes. It is
// room for several million objects.
const MaxIndex = 64 << 20

// magic begins every index; its last character is the version of the format.
const magic = "ashpack1"

// Frame is one zstd frame of the blob.
type Frame struct {
	Offset int64 // where it begins in the blob
	Length int64 // its bytes in the blob
	Start  int64 // where its content begins in the tar
	Size   int64 // the bytes of its content
}

// Entry is where one object is.
type Entry struct {
	tree.Object
	Frame  int   // the frame in which it begins
	Offset int64 // where in the content of that frame
}

// Index tells where in a blob each object of an image is.
type Index struct {
	Frames  []Frame // they fill the blob without a gap
	Objects []Entry // in the order of tree.Tree.Objects
}

// BlobSize returns the size of the blob that x describes.
func (x *Index) BlobSize() int64 {
	if len(x.Frames) == 0 {
		return 0
	}
	f := x.Frames[len(x.Frames)-1]
	return f.Offset + f.Length
}

// TarSize returns the size of the decompressed blob.
func (x *Index) TarSize() int64 {
	if len(x.Frames) == 0 {
		return 0
	}
	f := x.Frames[len(x.Frames)-1]
	return f.Start + f.Size
}

// last returns the last frame that holds bytes of the object at i.
func (x *Index) last(i int) int {
	e := &x.Objects[i]
	n, have := e.Frame, x.Frames[e.Frame].Size-e.Offset
	for have < int64(e.Size) {
		n++
		have += x.Frames[n].Size
	}
	return n
}

// blocks returns the number of tar blocks that n bytes fill.
func blocks(n int64) int64 { return n/block + (n%block+block-1)/block }

// Encode returns the index as docs/pack.md describes it.
func (x *Index) Encode() []byte {
	b := make([]byte, 0, len(magic)+10+5*len(x.Frames)+2*len(x.Objects))
	b = append(b, magic...)
	b = binary.AppendUvarint(b, uint64(len(x.Frames)))
	b = binary.AppendUvarint(b, uint64(len(x.Objects)))
	for _, f := range x.Frames {
		b = binary.AppendUvarint(b, uint64(f.Length))
		b = binary.AppendUvarint(b, uint64(f.Size/block))
	}
	pos := int64(0) // in the tar, in blocks
	for _, e := range x.Objects {
		at := (x.Frames[e.Frame].Start + e.Offset) / block
		b = binary.AppendUvarint(b, uint64(at-pos))
		pos = at + blocks(int64(e.Size))
	}
	return b
}

// DecodeIndex reads what Encode wrote. objects is what the image lists
// (tree.Tree.Objects) and blobSize the size of the blob in bytes; an index that
// does not fit both exactly is refused.
func DecodeIndex(b []byte, objects []tree.Object, blobSize int64) (*Index, error) {
	if len(b) > MaxIndex {
		return nil, fmt.Errorf("pack index: it has %d bytes, the limit is %d", len(b), MaxIndex)
	}
	if len(b) < len(magic) || string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("pack index: it does not begin with %q", magic)
	}
	d := decoder{b: b[len(magic):]}
	nframes, err := d.uvarint()
	if err != nil {
		return nil, fmt.Errorf("pack index: frame count: %w", err)
	}
	nobjects, err := d.uvarint()
	if err != nil {
		return nil, fmt.Errorf("pack index: object count: %w", err)
	}
	if nobjects != uint64(len(objects)) {
		return nil, fmt.Errorf("pack index: it places %d objects, the image has %d", nobjects, len(objects))
	}
	// A frame takes at least two bytes and an object one, so that the counts
	// cannot ask for more memory than the index itself accounts for.
	if rest := uint64(len(d.b)); nframes > rest/2 || nobjects > rest-2*nframes {
		return nil, fmt.Errorf("pack index: %d frames and %d objects do not fit in %d bytes", nframes, nobjects, rest)
	}
	x := &Index{Frames: make([]Frame, nframes), Objects: make([]Entry, nobjects)}
	if err := d.frames(x.Frames, blobSize); err != nil {
		return nil, fmt.Errorf("pack index: %w", err)
	}
	if err := d.objects(x, objects); err != nil {
		return nil, fmt.Errorf("pack index: %w", err)
	}
	if len(d.b) != 0 {
		return nil, fmt.Errorf("pack index: %d bytes follow its end", len(d.b))
	}
	return x, nil
}

// decoder reads the numbers of an index from b.
type decoder struct{ b []byte }

var (
	errShort = errors.New("the index ends in the middle of a number")
	errLong  = errors.New("a number is not in its shortest form or over 64 bits")
)

// uvarint reads one number; only the shortest form of each is accepted, so that
// an index has one encoding.
func (d *decoder) uvarint() (uint64, error) {
	v, n := binary.Uvarint(d.b)
	switch {
	case n == 0:
		return 0, errShort
	case n < 0 || n > 1 && d.b[n-1] == 0:
		return 0, errLong
	}
	d.b = d.b[n:]
	return v, nil
}

// frames reads the lengths of the frames, which must fill the blob.
func (d *decoder) frames(frames []Frame, blobSize int64) error {
	var offset, start int64
	for i := range frames {
		length, err := d.uvarint()
		if err != nil {
			return fmt.Errorf("length of frame %d: %w", i, err)
		}
		size, err := d.uvarint()
		if err != nil {
			return fmt.Errorf("size of frame %d: %w", i, err)
		}
		if size == 0 || size > MaxFrame/block {
			return fmt.Errorf("size of frame %d: %d blocks, must be 1 to %d", i, size, MaxFrame/block)
		}
		f := Frame{Offset: offset, Start: start, Size: int64(size) * block}
		if length == 0 || length > uint64(maxLength(f.Size)) {
			return fmt.Errorf("length of frame %d: %d bytes, must be 1 to %d", i, length, maxLength(f.Size))
		}
		f.Length = int64(length)
		if f.Length > blobSize-offset {
			return fmt.Errorf("length of frame %d: it ends after the blob's %d bytes", i, blobSize)
		}
		frames[i] = f
		offset += f.Length
		start += f.Size // at most MaxFrame for each two bytes of the index: no overflow
	}
	if offset != blobSize {
		return fmt.Errorf("the frames have %d bytes, the blob has %d", offset, blobSize)
	}
	return nil
}

// objects reads the gaps before the objects and so places each in a frame.
func (d *decoder) objects(x *Index, objects []tree.Object) error {
	end := x.TarSize()
	pos, frame := int64(0), 0
	for i, o := range objects {
		gap, err := d.uvarint()
		if err != nil {
			return fmt.Errorf("place of object %q: %w", o.Digest, err)
		}
		if gap > uint64(end-pos)/block {
			return fmt.Errorf("place of object %q: it begins after the tar's %d bytes", o.Digest, end)
		}
		pos += int64(gap) * block
		if o.Size == 0 || o.Size > math.MaxInt64 || int64(o.Size) > end-pos {
			return fmt.Errorf("place of object %q: its %d bytes at %d do not fit in the tar's %d", o.Digest, o.Size, pos, end)
		}
		frame += sort.Search(len(x.Frames)-frame-1, func(n int) bool { return x.Frames[frame+n+1].Start > pos })
		x.Objects[i] = Entry{Object: o, Frame: frame, Offset: pos - x.Frames[frame].Start}
		pos += blocks(int64(o.Size)) * block // end is a multiple of a block: pos stays within
	}
	return nil
}

// maxLength is the largest number of bytes that a frame of size bytes can have
// in the blob. Content that does not compress is stored in blocks of at most
// 128 KiB with 3 bytes before each; the frame's own header has at most 18
// (RFC 8878, 3.1.1).
func maxLength(size int64) int64 { return size + 3*(size/(128<<10)+1) + 32 }
