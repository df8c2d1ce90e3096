package pack

import (
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// decodeSlack is the room behind a frame's end that lets the decoder copy without
// looking at the end of its buffer at every step. A frame cannot use it to be longer
// than the index says: that is compared.
const decodeSlack = 64 // bytes; the decoder wants 16

// Extract reads the rg.Length bytes of a range from r and calls put for every
// object that the range was planned for, in order. The reader that put is given
// yields exactly obj.Size bytes or an error; put need not read it to the end.
// What the bytes are is put's to check: only lengths are checked here.
//
// Extract holds one frame at a time. It may run for several ranges at once.
func Extract(r io.Reader, rg Range, put func(obj tree.Object, r io.Reader) error) error {
	dec, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxMemory(MaxFrame),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return fmt.Errorf("preparing zstd: %w", err)
	}
	defer dec.Close()
	e := &extractor{in: r, pos: rg.Offset, index: rg.index, dec: dec}
	for _, i := range rg.Objects {
		obj := &e.index.Objects[i]
		if err := e.enter(obj.Frame); err != nil {
			return fmt.Errorf("extracting object %q: %w", obj.Digest, err)
		}
		content := &objectReader{e: e, rest: e.content[obj.Offset:], left: int64(obj.Size)}
		if err := put(obj.Object, content); err != nil {
			return err
		}
		if content.err != nil {
			return fmt.Errorf("extracting object %q: %w", obj.Digest, content.err)
		}
	}
	// Read what is left, so that a connection can be used again.
	if left := rg.end() - e.pos; left > 0 {
		if err := e.skip(left); err != nil {
			return err
		}
	}
	return nil
}

// extractor decompresses the frames of one range, in order.
type extractor struct {
	in    io.Reader
	pos   int64 // of in, in the blob
	index *Index
	dec   *zstd.Decoder

	current int    // the frame in content, if content is not nil
	content []byte // decompressed
	packed  []byte // a buffer
}

// enter makes frame n the current one.
func (e *extractor) enter(n int) error {
	if e.content != nil && e.current == n {
		return nil
	}
	f := e.index.Frames[n]
	if err := e.skip(f.Offset - e.pos); err != nil {
		return err
	}
	e.packed = grow(e.packed, f.Length)
	got, err := io.ReadFull(e.in, e.packed)
	e.pos += int64(got)
	if err != nil {
		return fmt.Errorf("reading frame %d: %w", n, unexpected(err))
	}
	if err := checkFrame(e.packed, f.Size); err != nil {
		return fmt.Errorf("frame %d: %w", n, err)
	}
	e.content = grow(e.content, f.Size+decodeSlack)
	out, err := e.dec.DecodeAll(e.packed, e.content[:0])
	if err != nil {
		return fmt.Errorf("decompressing frame %d: %w", n, err)
	}
	if int64(len(out)) != f.Size {
		return fmt.Errorf("decompressing frame %d: it has %d bytes, the index says %d", n, len(out), f.Size)
	}
	e.current, e.content = n, out
	return nil
}

// checkFrame looks at the header of a frame before anything is decompressed.
func checkFrame(packed []byte, size int64) error {
	var h zstd.Header
	if err := h.Decode(packed); err != nil {
		return fmt.Errorf("it is no zstd frame: %w", err)
	}
	switch {
	case h.Skippable:
		return fmt.Errorf("it is a skippable zstd frame")
	case h.DictionaryID != 0:
		return fmt.Errorf("it wants a zstd dictionary")
	case !h.HasFCS || h.FrameContentSize != uint64(size):
		return fmt.Errorf("it says that it has %d bytes, the index says %d", h.FrameContentSize, size)
	}
	return nil
}

// skip reads n bytes and throws them away.
func (e *extractor) skip(n int64) error {
	got, err := io.CopyN(io.Discard, e.in, n)
	e.pos += got
	if err != nil {
		return fmt.Errorf("reading the pack at %d: %w", e.pos, unexpected(err))
	}
	return nil
}

// objectReader yields the content of one object.
type objectReader struct {
	e    *extractor
	rest []byte // of the current frame
	left int64  // of the object
	err  error
}

func (o *objectReader) Read(p []byte) (int, error) {
	part, err := o.part()
	if err != nil {
		return 0, err
	}
	n := copy(p, part)
	o.took(n)
	return n, nil
}

// WriteTo writes what is left, frame by frame, from where it was decompressed to.
func (o *objectReader) WriteTo(w io.Writer) (written int64, err error) {
	for {
		part, err := o.part()
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
		n, err := w.Write(part)
		o.took(n)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
}

// part is what the current frame still has of the object, after the next frame
// was entered where that is nothing. It is io.EOF at the object's end.
func (o *objectReader) part() ([]byte, error) {
	switch {
	case o.err != nil:
		return nil, o.err
	case o.left == 0:
		return nil, io.EOF
	case len(o.rest) == 0:
		if o.err = o.e.enter(o.e.current + 1); o.err != nil {
			return nil, o.err
		}
		o.rest = o.e.content
	}
	return o.rest[:min(int64(len(o.rest)), o.left)], nil
}

func (o *objectReader) took(n int) {
	o.rest = o.rest[n:]
	o.left -= int64(n)
}

// grow returns a slice of n bytes, b's array if it is large enough.
func grow(b []byte, n int64) []byte {
	if int64(cap(b)) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// unexpected says that an end of input was too early.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
