package medium

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// maxGap is how many bytes of zeros an extent may hold: another one costs a reader and a
// drive more.
const maxGap = 64 << 10

// writer takes an image from its first byte to its last, and makes the map and the blob
// of its blocks.
//
// It works window by window, of MaxExtent bytes each; an extent never crosses from one
// to the next. While one is hashed and stored, the next is read.
type writer struct {
	blocks   io.Writer
	progress progress.Reporter

	m       *medium.Map
	patches []patch // of the partition table
	end     int64   // bytes taken so far

	window, spare []byte
	pending       chan error // of the window that is being stored; nil: none is
	whole         hash.Hash  // of the blob
}

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
		window: make([]byte, 0, medium.MaxExtent), spare: make([]byte, 0, medium.MaxExtent),
		m: &medium.Map{Schema: medium.Schema, Size: table.Size},
	}
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
	if err == nil {
		err = w.wait()
	}
	return w.m, medium.Digest(w.whole.Sum(nil)), err
}

// flush has the window stored, and begins the next.
func (w *writer) flush() error {
	if err := w.wait(); err != nil {
		return err
	}
	full, at := w.window, w.end-int64(len(w.window))
	w.window, w.spare = w.spare[:0], full
	pending := make(chan error, 1)
	w.pending = pending
	go func() { pending <- w.store(at, full) }()
	return nil
}

// wait returns what became of the window that was flushed.
func (w *writer) wait() error {
	if w.pending == nil {
		return nil
	}
	err := <-w.pending
	w.pending = nil
	return err
}

// store makes extents of a window and stores them.
func (w *writer) store(at int64, window []byte) error {
	for _, p := range w.patches {
		// Of the patch, the part that lies in the window.
		from, to := max(p.offset, at), min(p.offset+int64(len(p.content)), at+int64(len(window)))
		if from < to {
			copy(window[from-at:], p.content[from-p.offset:to-p.offset])
		}
	}
	for done := 0; ; {
		start, end := nextRun(window[done:])
		if start == end {
			return nil
		}
		if err := w.extent(at+int64(done+start), window[done+start:done+end]); err != nil {
			return err
		}
		done += end
	}
}

// extent stores one extent and adds it to the map.
func (w *writer) extent(offset int64, content []byte) error {
	for _, r := range w.m.Open {
		if offset < r.Offset+r.Length && r.Offset < offset+int64(len(content)) {
			return fmt.Errorf("the open region %q is not empty", r.Name)
		}
	}
	e := medium.Extent{Offset: offset, Length: int64(len(content))}
	var both sync.WaitGroup
	both.Go(func() { e.SHA256 = sha256.Sum256(content) })
	both.Go(func() { w.whole.Write(content) })
	_, err := w.blocks.Write(content)
	both.Wait()
	w.m.Extents = append(w.m.Extents, e)
	return err
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
