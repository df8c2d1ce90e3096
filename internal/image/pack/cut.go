package pack

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// sharedFrame is the size up to which entries share a frame. An entry that is
// larger has frames of its own. It was found by measuring: see docs/pack.md.
const sharedFrame = 128 << 10

// cutter makes the tar and cuts it into frames.
type cutter struct {
	open     func(*tree.Node) (io.ReadCloser, error)
	pipeline *pipeline

	shared  *frame       // the shared frame that is being filled, or nil
	header  bytes.Buffer // of the current entry
	pos     int64        // in the tar
	objects []Entry      // Offset is in the tar until place is called
	seen    map[verity.Digest]bool
}

// padding ends each content at a multiple of a block; two blocks of it end a tar.
var padding [2 * block]byte

// run sends the frames of the whole tar.
func (c *cutter) run(ctx context.Context, list []entry) error {
	c.seen = make(map[verity.Digest]bool)
	for i := range list {
		if err := c.add(ctx, &list[i]); err != nil {
			return err
		}
	}
	f, err := c.share(ctx, len(padding))
	if err != nil {
		return err
	}
	f.content = append(f.content, padding[:]...)
	return c.flush(ctx)
}

// add appends one entry to the tar.
func (c *cutter) add(ctx context.Context, e *entry) error {
	c.header.Reset()
	if err := appendHeader(&c.header, e); err != nil {
		return err
	}
	size := e.size()
	total := int64(c.header.Len()) + blocks(size)*block
	if size > 0 && !e.node.Digest.IsZero() && !c.seen[e.node.Digest] {
		c.seen[e.node.Digest] = true
		c.objects = append(c.objects, Entry{
			Object: tree.Object{Digest: e.node.Digest, Size: e.node.Size},
			Offset: c.pos + int64(c.header.Len()),
		})
	}
	c.pos += total
	if total > sharedFrame {
		return c.large(ctx, e, total)
	}
	f, err := c.share(ctx, int(total))
	if err != nil {
		return err
	}
	f.content = append(f.content, c.header.Bytes()...)
	if size == 0 {
		return nil
	}
	r, err := c.content(e)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := f.fill(r, int(size)); err != nil {
		return fmt.Errorf("packing %q: %w", "/"+e.name, err)
	}
	return atEnd(r, e)
}

// large gives an entry of total bytes frames of its own.
func (c *cutter) large(ctx context.Context, e *entry, total int64) error {
	if err := c.flush(ctx); err != nil {
		return err
	}
	r, err := c.content(e)
	if err != nil {
		return err
	}
	defer r.Close()
	left := e.size()
	for total > 0 {
		n := min(total, MaxFrame)
		f, err := c.pipeline.take(ctx, int(n))
		if err != nil {
			return err
		}
		f.content = append(f.content, c.header.Next(int(n))...)
		part := min(left, n-int64(len(f.content)))
		if err := f.fill(r, int(part)); err != nil {
			return fmt.Errorf("packing %q: %w", "/"+e.name, err)
		}
		if left -= part; left == 0 {
			if err := atEnd(r, e); err != nil {
				return err
			}
		}
		total -= int64(len(f.content))
		if err := c.pipeline.send(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// share returns the frame that takes the next n bytes together with its neighbours.
func (c *cutter) share(ctx context.Context, n int) (*frame, error) {
	if c.shared != nil && len(c.shared.content)+n > sharedFrame {
		if err := c.flush(ctx); err != nil {
			return nil, err
		}
	}
	if c.shared == nil {
		f, err := c.pipeline.take(ctx, sharedFrame)
		if err != nil {
			return nil, err
		}
		c.shared = f
	}
	return c.shared, nil
}

// flush sends the shared frame.
func (c *cutter) flush(ctx context.Context) error {
	if c.shared == nil {
		return nil
	}
	f := c.shared
	c.shared = nil
	return c.pipeline.send(ctx, f)
}

// content opens the content of a regular file.
func (c *cutter) content(e *entry) (io.ReadCloser, error) {
	n := e.node
	if len(n.Inline) > 0 {
		return io.NopCloser(bytes.NewReader(n.Inline)), nil
	}
	if e.size() == 0 {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	if n.Digest.IsZero() {
		return nil, fmt.Errorf("cannot pack %q: its %d bytes are neither inline nor an object", "/"+e.name, n.Size)
	}
	r, err := c.open(n)
	if err != nil {
		return nil, fmt.Errorf("packing %q: %w", "/"+e.name, err)
	}
	return r, nil
}

// fill appends n bytes of r to f, and pads f to a block.
func (f *frame) fill(r io.Reader, n int) error {
	start := len(f.content)
	f.content = f.content[:start+n]
	if got, err := io.ReadFull(r, f.content[start:]); err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("its content ends %d bytes early", n-got)
	} else if err != nil {
		return err
	}
	if rest := len(f.content) % block; rest != 0 {
		f.content = append(f.content, padding[:block-rest]...)
	}
	return nil
}

// atEnd checks that nothing follows the content that was read from r.
func atEnd(r io.Reader, e *entry) error {
	var one [1]byte
	if n, err := io.ReadFull(r, one[:]); n > 0 {
		return fmt.Errorf("packing %q: its content is longer than the %d bytes that the tree says", "/"+e.name, e.size())
	} else if err != io.EOF {
		return fmt.Errorf("packing %q: %w", "/"+e.name, err)
	}
	return nil
}

// place turns the objects' offsets in the tar into offsets in x's frames.
func (c *cutter) place(x *Index) {
	frame := 0
	for i := range c.objects {
		e := &c.objects[i]
		for frame+1 < len(x.Frames) && x.Frames[frame+1].Start <= e.Offset {
			frame++
		}
		e.Frame, e.Offset = frame, e.Offset-x.Frames[frame].Start
	}
}
