package media

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/ashlar-os/ashlar/internal/media/drive"
)

// piece is a range of a drive, what belongs there, and how to get it. Its length
// is a multiple of drive.Block and at most maxPiece.
type piece struct {
	offset, length int64
	sha256         [sha256.Size]byte
	read           func(b []byte) error // gives length bytes
	fresh          bool                 // may be another one than the last time, under the same map
}

func (p *piece) end() int64 { return p.offset + p.length }

const maxPiece = 4 << 20

func sortPieces(pieces []piece) {
	slices.SortFunc(pieces, func(a, b piece) int { return cmp.Compare(a.offset, b.offset) })
}

// span is a range, from its first byte up to, and without, to.
type span struct{ from, to int64 }

// holesOf is what no piece covers of the first size bytes. The pieces are sorted.
func holesOf(pieces []piece, size int64) []span {
	var holes []span
	at := int64(0)
	for i := range pieces {
		if p := &pieces[i]; p.offset > at {
			holes = append(holes, span{at, p.offset})
		}
		at = max(at, pieces[i].end())
	}
	if at < size {
		holes = append(holes, span{at, size})
	}
	return holes
}

// inFlight is how many pieces are on their way at once: enough to keep a drive
// busy while the next ones are read and hashed. It bounds memory, too.
const inFlight = 4

// crew does something with many pieces at once, in their order.
type crew struct{ buffers chan []byte }

func newCrew() *crew {
	c := &crew{make(chan []byte, inFlight)}
	for range inFlight {
		c.buffers <- nil
	}
	return c
}

// each calls do for every piece, with its index and a buffer of its length. The
// first error ends it.
func (c *crew) each(ctx context.Context, pieces []piece, do func(i int, b []byte) error) error {
	group, inner := errgroup.WithContext(ctx)
	for i := range pieces {
		b := <-c.buffers // whoever has one gives it back soon
		if inner.Err() != nil {
			c.buffers <- b
			break
		}
		if b == nil {
			b = drive.Buffer(maxPiece)
		}
		group.Go(func() error {
			defer func() { c.buffers <- b }()
			return do(i, b[:pieces[i].length])
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// matches says whether b is what belongs to the piece.
func (p *piece) matches(b []byte) bool {
	sum := sha256.Sum256(b)
	return bytes.Equal(sum[:], p.sha256[:])
}

// check reads a piece from where it comes from, and compares.
func (p *piece) check(b []byte) error {
	if err := p.read(b); err != nil {
		return err
	}
	if !p.matches(b) {
		return fmt.Errorf("bytes %d+%d of the medium are not as they were signed", p.offset, p.length)
	}
	return nil
}
