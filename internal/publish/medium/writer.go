package medium

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// systemArea is what precedes an ISO 9660, in bytes: there the partition table is.
const systemArea = 32 << 10

// maxGap is how many bytes of zeros an extent may hold: another one costs a reader and a
// drive more.
const maxGap = 64 << 10

// writer takes an image as xorriso writes it, from its first byte to its last, and
// makes the map and the blob of blocks of the image that it is to be.
//
// It works window by window, of MaxExtent bytes each; an extent never crosses from one
// to the next. The first begins with xorriso's partition table, which says where everything
// will be, so that table and backup can be replaced without going back.
type writer struct {
	blocks   io.Writer
	plan     func(theirs *gpt.Table, size int64) (*gpt.Table, error)
	progress progress.Reporter

	window []byte
	at     int64 // of the window in the image
	whole  hash.Hash

	m       *medium.Map
	patches []patch
	from    int64 // what precedes is the system area, and replaced
	to      int64 // what follows is behind the last partition, and replaced
	err     error // sticky
}

// patch is a part of the partition table.
type patch struct {
	offset  int64
	content []byte
}

func newWriter(blocks io.Writer, plan func(*gpt.Table, int64) (*gpt.Table, error), report progress.Reporter) *writer {
	return &writer{
		blocks: blocks, plan: plan, progress: report, whole: sha256.New(),
		window: make([]byte, 0, medium.MaxExtent),
	}
}

// Write takes the next bytes of xorriso's image.
func (w *writer) Write(p []byte) (n int, err error) {
	if w.err != nil {
		return 0, w.err
	}
	for n < len(p) && w.err == nil {
		free := w.window[len(w.window):cap(w.window)]
		c := copy(free, p[n:])
		w.window = w.window[:len(w.window)+c]
		n += c
		if len(w.window) == cap(w.window) {
			w.err = w.flush()
		}
	}
	w.progress.Add(int64(n))
	return n, w.err
}

// finish takes the last window, and returns the map and the digest of the blocks.
func (w *writer) finish() (*medium.Map, medium.Digest, error) {
	if w.err == nil && len(w.window) > 0 {
		w.err = w.flush()
	}
	if w.err == nil && (w.m == nil || w.at != w.m.Size) {
		w.err = fmt.Errorf("xorriso's image ends at %d, and its partition table says otherwise", w.at)
	}
	if w.err != nil {
		return nil, medium.Digest{}, w.err
	}
	return w.m, medium.Digest(w.whole.Sum(nil)), nil
}

// flush makes extents of the window.
func (w *writer) flush() error {
	if w.m == nil {
		if err := w.begin(); err != nil {
			return err
		}
	}
	if len(w.window)%medium.BlockSize != 0 || w.at+int64(len(w.window)) > w.m.Size {
		return fmt.Errorf("xorriso's image is longer than the %d bytes of its partition table", w.m.Size)
	}
	w.replace()
	for rest := w.window; ; {
		start, end := nextRun(rest)
		if start == end {
			break
		}
		skipped := int64(len(w.window) - len(rest))
		if err := w.extent(w.at+skipped+int64(start), rest[start:end]); err != nil {
			return err
		}
		rest = rest[end:]
	}
	w.at += int64(len(w.window))
	w.window = w.window[:0]
	return nil
}

// begin reads xorriso's partition table and plans ours.
func (w *writer) begin() error {
	head := bytes.NewReader(w.window)
	theirs, err := gpt.Read(head, medium.SectorSize)
	if err != nil {
		return fmt.Errorf("reading xorriso's image: %w", err)
	}
	// The header says where its backup is: in the last sector (UEFI specification
	// 2.10 §5.3.2, AlternateLBA).
	last := binary.LittleEndian.Uint64(w.window[medium.SectorSize+32:])
	if last == 0 || last >= medium.MaxSize/medium.SectorSize {
		return errors.New("reading xorriso's image: its partition table does not say where it ends")
	}
	size := (int64(last) + 1) * medium.SectorSize
	table, err := w.plan(theirs, size)
	if err != nil {
		return err
	}
	w.m = &medium.Map{Schema: medium.Schema, Size: size}
	for _, p := range table.Partitions {
		switch w.to = p.Start + p.Size; p.Type {
		case medium.TypePapers:
			w.m.Open = append(w.m.Open, medium.Region{Name: medium.RegionPapers, Offset: p.Start, Length: p.Size})
		case medium.TypeAnswers:
			w.m.Open = append(w.m.Open, medium.Region{Name: medium.RegionAnswers, Offset: p.Start, Length: p.Size})
		}
	}
	w.from = systemArea
	return table.Write(w)
}

// WriteAt takes a part of our partition table.
func (w *writer) WriteAt(p []byte, offset int64) (int, error) {
	w.patches = append(w.patches, patch{offset, bytes.Clone(p)})
	return len(p), nil
}

// replace puts our partition table into the window.
func (w *writer) replace() {
	end := w.at + int64(len(w.window))
	if w.at < w.from {
		clear(w.window[:min(end, w.from)-w.at])
	}
	if end > w.to {
		clear(w.window[max(w.to, w.at)-w.at:])
	}
	for _, p := range w.patches {
		// Of the patch, the part that lies in the window.
		from, to := max(p.offset, w.at), min(p.offset+int64(len(p.content)), end)
		if from < to {
			copy(w.window[from-w.at:], p.content[from-p.offset:to-p.offset])
		}
	}
}

// extent stores one extent and adds it to the map.
func (w *writer) extent(offset int64, content []byte) error {
	for _, r := range w.m.Open {
		if offset < r.Offset+r.Length && r.Offset < offset+int64(len(content)) {
			return fmt.Errorf("the open region %q is not empty", r.Name)
		}
	}
	summed := make(chan medium.Digest, 1)
	go func() { summed <- sha256.Sum256(content) }()
	w.whole.Write(content)
	_, err := w.blocks.Write(content)
	w.m.Extents = append(w.m.Extents, medium.Extent{Offset: offset, Length: int64(len(content)), SHA256: <-summed})
	return err
}

// nextRun finds the first blocks of b that are not zero, up to a gap of more than maxGap,
// or the end. No such block: start is end.
func nextRun(b []byte) (start, end int) {
	for at := 0; at < len(b); at += medium.BlockSize {
		switch {
		case zero(b[at : at+medium.BlockSize]):
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

var zeros [medium.BlockSize]byte

func zero(block []byte) bool { return bytes.Equal(block, zeros[:]) }
