package media

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/ashlar-os/ashlar/internal/media/drive"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// Fault is what is wrong with a drive that does not hold what was written to it.
type Fault string

const (
	// Wraps: what is written beyond the size that it has lands at its beginning.
	// Drives are made so on purpose, to be sold as larger ones.
	Wraps Fault = "wraps"
	// Short: it takes everything, and keeps nothing beyond the size that it has.
	Short Fault = "short"
	// Broken: some of what was written is wrong, without an order in it.
	Broken Fault = "broken"
)

// BadDrive says that a drive does not hold what was written to it.
type BadDrive struct {
	Name    string // of the drive
	Fault   Fault
	Offset  int64 // of the first byte that is wrong
	Claimed int64 // the size that it says it has
	Real    int64 // about the size that it has; 0 where that is as claimed, as far as one can tell
}

func (e *BadDrive) Error() string {
	text := fmt.Sprintf("%s does not hold what was written to it: the first wrong byte is at offset %d", e.Name, e.Offset)
	switch e.Fault {
	case Wraps:
		text += fmt.Sprintf("; it claims %s and has at most %s: what is written beyond that overwrites its beginning", gigabytes(e.Claimed), gigabytes(e.Real))
	case Short:
		text += fmt.Sprintf("; it claims %s and keeps nothing beyond %s", gigabytes(e.Claimed), gigabytes(e.Real))
	}
	return text
}

// Hint tells counterfeits from drives that wear out.
func (e *BadDrive) Hint() string {
	if e.Fault == Broken {
		return "the drive, its reader or its cable is broken: nothing on it boots; try another port, then another drive"
	}
	return "it is a counterfeit: whatever its size says, data on it is lost; nothing on it boots"
}

func gigabytes(n int64) string { return fmt.Sprintf("%.2f GB", float64(n)/1e9) }

// errChanged: the drive is not to blame.
var errChanged = errors.New("what is to be written changed while it was written")

// diagnose finds out what is wrong with the drive where p was not read back as it
// was written. Nothing on the drive is of worth any more, so it may write.
func (w *burn) diagnose(ctx context.Context, p *piece) error {
	w.report.Stage("finding out what is wrong with "+w.name, 0, progress.Bytes)
	bad, err := w.firstBad(ctx)
	if err != nil {
		return err
	}
	if bad == nil { // it is right the second time
		return &BadDrive{Name: w.name, Fault: Broken, Offset: p.offset, Claimed: w.dev.Size()}
	}
	want, got := drive.Buffer(int(bad.length)), drive.Buffer(int(bad.length))
	if err := bad.read(want); err != nil {
		return err
	}
	if !bad.matches(want) {
		return errChanged
	}
	if _, err := w.dev.ReadAt(got, bad.offset); err != nil {
		return fmt.Errorf("reading bytes %d+%d back: %w", bad.offset, bad.length, err)
	}
	n := int64(0)
	for n < bad.length-1 && want[n] == got[n] {
		n++
	}
	e := &BadDrive{Name: w.name, Fault: Broken, Offset: bad.offset + n, Claimed: w.dev.Size()}
	block := n &^ (drive.Block - 1)
	from, err := w.origin(ctx, got[block:block+drive.Block], bad.offset+block)
	if err != nil {
		return err
	}
	if at := bad.offset + block; from > at && w.aliases(from, at) {
		e.Fault, e.Real = Wraps, from-at
		for around := int64(2); around <= 64; around++ { // it went around more than once
			if part := (from - at) / around; part%drive.Block == 0 && w.aliases(at+part, at) {
				e.Real = part
			}
		}
		return e
	}
	if last, err := w.lastGood(ctx); err == nil && last <= e.Offset && !w.keeps(w.pieces[len(w.pieces)-1].offset) {
		e.Fault, e.Real = Short, e.Offset
	}
	return e
}

// firstBad is the first piece that is not on the drive as it should be; what is
// at block 0 is not written yet.
func (w *burn) firstBad(ctx context.Context) (*piece, error) {
	if err := w.dev.Forget(); err != nil {
		return nil, err
	}
	b := drive.Buffer(maxPiece)
	for i := range w.pieces {
		p := &w.pieces[i]
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if i < w.inHead() && !w.headThere {
			continue
		}
		if _, err := w.dev.ReadAt(b[:p.length], p.offset); err != nil || !p.matches(b[:p.length]) {
			return p, nil
		}
	}
	return nil, nil
}

// lastGood is where the last piece ends that is on the drive as it should be.
func (w *burn) lastGood(ctx context.Context) (end int64, err error) {
	b := drive.Buffer(maxPiece)
	for i := len(w.pieces) - 1; i >= 0; i-- {
		p := &w.pieces[i]
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if _, err := w.dev.ReadAt(b[:p.length], p.offset); err == nil && p.matches(b[:p.length]) {
			return p.end(), nil
		}
	}
	return 0, nil
}

// origin looks for where else a block that was found on the drive was written to:
// the last place, or -1. A block of one byte value alone says nothing.
func (w *burn) origin(ctx context.Context, found []byte, at int64) (int64, error) {
	if len(bytes.Trim(found, string(found[:1]))) == 0 {
		return -1, nil
	}
	b := drive.Buffer(maxPiece)
	for i := len(w.pieces) - 1; i >= 0; i-- {
		p := &w.pieces[i]
		if err := ctx.Err(); err != nil {
			return -1, err
		}
		if err := p.read(b[:p.length]); err != nil {
			return -1, err
		}
		for off := p.length - drive.Block; off >= 0; off -= drive.Block {
			if p.offset+off != at && bytes.Equal(b[off:off+drive.Block], found) {
				return p.offset + off, nil
			}
		}
	}
	return -1, nil
}

// aliases says whether what is written at one place is read at another: the proof.
func (w *burn) aliases(written, read int64) bool {
	tag, got := newTag(), drive.Buffer(drive.Block)
	if w.put(tag, written) != nil || w.dev.Flush() != nil || w.dev.Forget() != nil {
		return false
	}
	_, err := w.dev.ReadAt(got, read)
	return err == nil && bytes.Equal(tag, got)
}

// keeps says whether a block can be read where it was written.
func (w *burn) keeps(at int64) bool { return w.aliases(at, at) }

// newTag is a block that nobody has written before.
func newTag() []byte {
	b := drive.Buffer(drive.Block)
	rand.Read(b)
	return b
}

// measure sees whether a drive has the size that it claims: it writes blocks at
// its end, its half, its quarter and so on, and reads them back. Counterfeits
// mostly have a power of two less than they claim. What else they may be is
// found when everything is read back.
func (w *burn) measure() error {
	const least = 16 << 20
	var places []int64
	tags := map[int64][]byte{}
	for part := w.dev.Size() &^ (drive.Block - 1); part >= least; part = part / 2 &^ (drive.Block - 1) {
		at := part - drive.Block
		places, tags[at] = append(places, at), newTag()
		if err := w.put(tags[at], at); err != nil {
			return err
		}
	}
	if err := w.dev.Flush(); err != nil {
		return err
	}
	if err := w.dev.Forget(); err != nil {
		return err
	}
	var bad *BadDrive
	got := drive.Buffer(drive.Block)
	for _, at := range places { // from the end on
		if _, err := w.dev.ReadAt(got, at); err != nil {
			return fmt.Errorf("reading bytes %d+%d back: %w", at, len(got), err)
		}
		if bytes.Equal(got, tags[at]) {
			continue
		}
		bad = &BadDrive{Name: w.name, Fault: Short, Offset: at, Claimed: w.dev.Size(), Real: at}
		for _, other := range places {
			if other < at && bytes.Equal(got, tags[other]) {
				bad.Fault, bad.Real = Wraps, at-other
			}
		}
	}
	if bad != nil {
		return bad
	}
	for _, at := range places { // behind the image nothing else will
		if err := w.zero(at, at+drive.Block); err != nil {
			return err
		}
	}
	return nil
}
