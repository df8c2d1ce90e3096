package media

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/ashlar-os/ashlar/internal/media/drive"
	"github.com/ashlar-os/ashlar/internal/progress"
)

const (
	headEnd    = 64 << 10 // what firmware looks at first is before this: GPT, volume descriptors
	wipeBytes  = 1 << 20  // at both ends of a drive; tables and the file systems' magics are there
	markEvery  = 64       // pieces between two marks of how far a write is
	oneZero    = 64 << 20 // bytes to clear at once: this may have to write them
	oneDiscard = 1 << 30  // bytes to discard at once: the kernel does not let itself be interrupted
)

// burn is one write: what goes where, to what.
type burn struct {
	dev    drive.Device
	name   string // of the drive or file, for people
	about  string // digest by which a cut write is known again
	size   int64  // of the medium, from the start of the drive
	pieces []piece
	probe  bool // see whether the drive has the size that it claims
	report progress.Reporter

	crew      *crew
	headThere bool // the head is written
	answer    Written
}

// Written says what a write did.
type Written struct {
	Bytes     int64 `json:"bytes"`     // in use, and read back
	Resumed   int64 `json:"resumed"`   // of those, how many were there already from a write that was cut
	Discarded bool  `json:"discarded"` // the drive was told that it holds nothing else
}

// run goes through the states that the package's documentation names.
func (w *burn) run(ctx context.Context) (Written, error) {
	w.crew = newCrew()
	sortPieces(w.pieces)
	for i := range w.pieces {
		w.answer.Bytes += w.pieces[i].length
	}
	missing, err := w.resume(ctx)
	if err == nil && missing == nil {
		missing = w.pieces
		err = w.begin(ctx)
	}
	if err == nil {
		err = w.body(ctx, missing)
	}
	if err == nil {
		err = w.head()
	}
	if err != nil {
		return Written{}, fmt.Errorf("writing to %s: %w", w.name, err)
	}
	return w.answer, nil
}

// begin marks the drive and wipes it.
func (w *burn) begin(ctx context.Context) error {
	w.report.Stage("preparing "+w.name, 0, progress.Bytes)
	// From here on nothing boots from it: what it held is given up, and everything
	// that follows may stay half-done.
	if err := w.mark(0); err != nil {
		return err
	}
	if err := w.dev.Flush(); err != nil {
		return err
	}
	if w.probe {
		if err := w.measure(); err != nil {
			return err
		}
	}
	if err := w.discard(ctx); err != nil {
		return err
	}
	if err := w.empty(ctx); err != nil {
		return err
	}
	size := w.dev.Size()
	if err := w.zero(drive.Block, min(wipeBytes, size)); err != nil {
		return err
	}
	// A backup table at the drive's end would be taken for the medium's.
	if from := max(w.size, (size-wipeBytes)&^(drive.Block-1)); from < size {
		return w.zero(from, size)
	}
	return nil // what is written first is flushed together with this
}

// discard tells the drive that it holds nothing but the marker.
func (w *burn) discard(ctx context.Context) error {
	size := w.dev.Size() &^ (drive.Block - 1)
	for off := int64(drive.Block); off < size; off += oneDiscard {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := w.dev.Discard(off, min(oneDiscard, size-off))
		if errors.Is(err, errors.ErrUnsupported) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	w.answer.Discarded = true
	return nil
}

// empty makes the holes of the medium zero: it has file systems whose tables and
// directories end in zeros, so that what a drive held before must not show there.
// Drives that discard mostly do this without writing; others have to be written.
func (w *burn) empty(ctx context.Context) error {
	holes := holesOf(w.pieces, w.size)
	total := int64(0)
	for _, h := range holes {
		total += h.to - h.from
	}
	if total > 0 {
		w.report.Stage("clearing "+w.name, total, progress.Bytes)
	}
	for _, h := range holes {
		for off := h.from; off < h.to; off += oneZero {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := min(oneZero, h.to-off)
			if err := w.dev.Zero(off, n); err != nil {
				return fmt.Errorf("clearing bytes %d+%d: %w", off, n, err)
			}
			w.report.Add(n)
		}
	}
	return nil
}

// zero overwrites [from, to).
func (w *burn) zero(from, to int64) error {
	if from >= to {
		return nil
	}
	return w.put(drive.Buffer(int(to-from)), from)
}

// body writes what is missing behind the head, and reads back all that is there.
func (w *burn) body(ctx context.Context, missing []piece) error {
	total := int64(0)
	for i := range missing {
		total += missing[i].length
	}
	w.report.Stage("writing to "+w.name, total, progress.Bytes)
	for len(missing) > 0 {
		batch := missing[:min(markEvery, len(missing))]
		missing = missing[len(batch):]
		err := w.crew.each(ctx, batch, func(i int, b []byte) error {
			p := &batch[i]
			if err := p.read(b); err != nil {
				return err
			}
			if skip := max(0, headEnd-p.offset); skip < p.length {
				if err := w.put(b[skip:], p.offset+skip); err != nil {
					return err
				}
			}
			w.report.Add(p.length)
			return nil
		})
		if err != nil {
			return err
		}
		if err := w.dev.Flush(); err != nil {
			return err
		}
		if len(missing) > 0 {
			if err := w.mark(missing[0].offset); err != nil {
				return err
			}
		}
	}
	w.report.Stage("reading back from "+w.name, w.answer.Bytes, progress.Bytes)
	return w.readBack(ctx, w.pieces[w.inHead():])
}

// inHead is how many pieces begin in the head.
func (w *burn) inHead() int {
	n, _ := slices.BinarySearchFunc(w.pieces, int64(headEnd), func(p piece, off int64) int {
		return cmp.Compare(p.offset, off)
	})
	return n
}

// head writes what makes the medium boot: the very first block after everything
// else. No context ends it: it takes no time, and what is half-done helps nobody.
func (w *burn) head() error {
	pieces := w.pieces[:w.inHead()]
	var first []byte
	for i := range pieces {
		p := &pieces[i]
		b := drive.Buffer(int(p.length))
		if err := p.read(b); err != nil {
			return err
		}
		b = b[:min(p.length, headEnd-p.offset)]
		off := p.offset
		if off == 0 {
			first, b, off = b[:drive.Block], b[drive.Block:], drive.Block
		}
		if err := w.put(b, off); err != nil {
			return err
		}
	}
	if err := w.dev.Flush(); err != nil {
		return err
	}
	if first == nil {
		first = drive.Buffer(drive.Block)
	}
	w.headThere = true
	if err := w.put(first, 0); err != nil {
		return err
	}
	if err := w.dev.Flush(); err != nil {
		return err
	}
	err := w.readBack(context.Background(), pieces)
	if err != nil {
		_ = errors.Join(w.mark(0), w.dev.Flush()) // it must not boot; where even that fails there is nothing left to do
	}
	return err
}

// put writes b at off; an empty b is nothing to do.
func (w *burn) put(b []byte, off int64) error {
	if len(b) == 0 {
		return nil
	}
	if _, err := w.dev.WriteAt(b, off); err != nil {
		return fmt.Errorf("bytes %d+%d: %w", off, len(b), err)
	}
	return nil
}

// readBack compares what is on the medium with what belongs there.
func (w *burn) readBack(ctx context.Context, pieces []piece) error {
	if err := w.dev.Forget(); err != nil {
		return err
	}
	var bad atomic.Pointer[piece]
	err := w.crew.each(ctx, pieces, func(i int, b []byte) error {
		p := &pieces[i]
		if _, err := w.dev.ReadAt(b, p.offset); err != nil {
			return fmt.Errorf("reading bytes %d+%d back: %w", p.offset, p.length, err)
		}
		if !p.matches(b) {
			bad.CompareAndSwap(nil, p)
			return errMismatch
		}
		w.report.Add(p.length)
		return nil
	})
	if errors.Is(err, errMismatch) {
		return w.diagnose(ctx, bad.Load())
	}
	return err
}

var errMismatch = errors.New("it is not what was written")
