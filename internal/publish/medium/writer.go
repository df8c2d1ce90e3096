package medium

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// maxGap is how many bytes of zeros an extent may hold: another one costs a reader and a
// drive more.
const maxGap = 64 << 10

// windows is how many are on their way at once: while one waits for the disk, and the
// next for the one digest that goes over all of them, others are hashed and read.
const windows = 4

// writer takes an image from its first byte to its last, and makes the map and the blob
// of its blocks.
//
// It works window by window, of MaxExtent bytes each; an extent never crosses from one
// to the next. Of each window three things are done at once: its extents are hashed, the
// blob is, and it is stored.
type writer struct {
	blocks   io.Writer
	progress progress.Reporter

	m       *medium.Map
	extents []*medium.Extent // what becomes the map's
	patches []patch          // of the partition table
	end     int64            // bytes taken so far

	window []byte      // that is filled
	free   chan []byte // others
	tasks  *errgroup.Group
	failed context.Context // done when a task has
	before turn            // of the window that was flushed last
	whole  hash.Hash       // of the blob
}

// turn says how far a window is, by channels that are closed.
type turn struct{ hashed, stored chan struct{} }

func newTurn() turn { return turn{make(chan struct{}), make(chan struct{})} }

// patch is a part of the partition table.
type patch struct {
	offset  int64
	content []byte
}

// newWriter begins an image with that partition table. What is taken of it where the
// table lies is replaced.
func newWriter(blocks io.Writer, table *gpt.Table, report progress.Reporter) (*writer, error) {
	w := &writer{
		blocks: blocks, progress: report, whole: sha256.New(),
		window: make([]byte, 0, medium.MaxExtent), free: make(chan []byte, windows-1),
		m:      &medium.Map{Schema: medium.Schema, Size: table.Size},
		before: newTurn(),
	}
	close(w.before.hashed)
	close(w.before.stored)
	for range cap(w.free) {
		w.free <- make([]byte, 0, medium.MaxExtent)
	}
	w.tasks, w.failed = errgroup.WithContext(context.Background())
	for _, p := range table.Partitions {
		switch p.Type {
		case medium.TypePapers:
			w.m.Open = append(w.m.Open, medium.Region{Name: medium.RegionPapers, Offset: p.Start, Length: p.Size})
		case medium.TypeAnswers:
			w.m.Open = append(w.m.Open, medium.Region{Name: medium.RegionAnswers, Offset: p.Start, Length: p.Size})
		}
	}
	return w, table.Write(w)
}

// WriteAt takes a part of the partition table.
func (w *writer) WriteAt(p []byte, offset int64) (int, error) {
	w.patches = append(w.patches, patch{offset, bytes.Clone(p)})
	return len(p), nil
}

// Write takes the next bytes of the image.
func (w *writer) Write(p []byte) (int, error) {
	n, err := w.ReadFrom(bytes.NewReader(p))
	return int(n), err
}

// ReadFrom takes the next bytes of the image from r, up to its end.
func (w *writer) ReadFrom(r io.Reader) (n int64, err error) {
	for {
		if len(w.window) == cap(w.window) {
			if err := w.flush(); err != nil {
				return n, err
			}
		}
		c, err := r.Read(w.window[len(w.window):cap(w.window)])
		w.window = w.window[:len(w.window)+c]
		n, w.end = n+int64(c), w.end+int64(c)
		w.progress.Add(int64(c))
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// zeroTo takes zeros up to an offset.
func (w *writer) zeroTo(offset int64) error {
	if offset < w.end {
		return fmt.Errorf("what was written ends at %d, and not before %d", w.end, offset)
	}
	for w.end < offset {
		n := min(offset-w.end, int64(len(zeros)))
		if _, err := w.Write(zeros[:n]); err != nil {
			return err
		}
	}
	return nil
}

// finish fills the image up with zeros, and returns its map and the digest of the blob.
func (w *writer) finish() (*medium.Map, medium.Digest, error) {
	err := w.zeroTo(w.m.Size)
	if err == nil && len(w.window) > 0 {
		err = w.flush()
	}
	err = errors.Join(err, w.wait())
	for _, e := range w.extents {
		w.m.Extents = append(w.m.Extents, *e)
	}
	return w.m, medium.Digest(w.whole.Sum(nil)), err
}

// flush has the window hashed and stored, and begins the next.
func (w *writer) flush() error {
	if w.failed.Err() != nil {
		return context.Cause(w.failed)
	}
	full, at := w.window, w.end-int64(len(w.window))
	for _, p := range w.patches {
		// Of the patch, the part that lies in the window.
		from, to := max(p.offset, at), min(p.offset+int64(len(p.content)), at+int64(len(full)))
		if from < to {
			copy(full[from-at:], p.content[from-p.offset:to-p.offset])
		}
	}
	extents, err := w.cut(at, full)
	if err != nil {
		return err
	}
	w.extents = append(w.extents, extents...)
	content := func(e *medium.Extent) []byte { return full[e.Offset-at:][:e.Length] }
	before, now := w.before, newTurn()
	w.before = now
	tasks := []func() error{
		func() error {
			for _, e := range extents {
				e.SHA256 = sha256.Sum256(content(e))
			}
			return nil
		},
		func() error {
			defer close(now.hashed)
			<-before.hashed
			for _, e := range extents {
				w.whole.Write(content(e))
			}
			return nil
		},
		func() error {
			defer close(now.stored)
			<-before.stored
			for _, e := range extents {
				if _, err := w.blocks.Write(content(e)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	var left atomic.Int32
	left.Store(int32(len(tasks)))
	for _, do := range tasks {
		w.tasks.Go(func() error {
			defer func() {
				if left.Add(-1) == 0 {
					w.free <- full[:0]
				}
			}()
			return do()
		})
	}
	w.window = <-w.free
	return nil
}

// wait returns what became of the windows that were flushed.
func (w *writer) wait() error { return w.tasks.Wait() }

// cut makes extents of a window.
func (w *writer) cut(at int64, window []byte) (extents []*medium.Extent, err error) {
	for done := 0; ; {
		start, end := nextRun(window[done:])
		if start == end {
			return extents, nil
		}
		e := &medium.Extent{Offset: at + int64(done+start), Length: int64(end - start)}
		for _, r := range w.m.Open {
			if e.Offset < r.Offset+r.Length && r.Offset < e.Offset+e.Length {
				return nil, fmt.Errorf("the open region %q is not empty", r.Name)
			}
		}
		extents = append(extents, e)
		done += end
	}
}

// nextRun finds the first blocks of b that are not zero, up to a gap of more than maxGap,
// or the end. No such block: start is end.
func nextRun(b []byte) (start, end int) {
	for at := 0; at < len(b); at += medium.BlockSize {
		switch {
		case bytes.Equal(b[at:at+medium.BlockSize], zeros[:medium.BlockSize]):
			if end > 0 && at+medium.BlockSize-end > maxGap {
				return start, end
			}
			continue
		case end == 0:
			start = at
		}
		end = at + medium.BlockSize
	}
	return start, end
}

var zeros [64 << 10]byte
