package pack

import (
	"context"
	"math/bits"
	"sync"

	"golang.org/x/sync/semaphore"
)

// frame is one frame in work. It is owned by one goroutine at a time, but for
// its content, which is read by the compressor and the hasher together.
type frame struct {
	content []byte
	packed  []byte
	busy    sync.WaitGroup // the compressor and the hasher
	class   int
}

// smallest is the size of the buffers of the smallest class.
const smallest = 64 << 10

// pipeline carries frames from the cutter to the output. The bytes in it are
// bounded, not the number of frames: with a fixed number, either a few large
// frames take too much memory or many small ones wait behind one large.
type pipeline struct {
	budget *semaphore.Weighted
	work   chan *frame // to the compressors
	hash   chan *frame // to the hasher of the tar
	order  chan *frame // to the output

	// pools holds idle frames by class: class c has buffers of smallest<<c bytes.
	pools [8]sync.Pool
}

// take returns an empty frame with room for n bytes, waiting until the budget
// allows it.
func (p *pipeline) take(ctx context.Context, n int) (*frame, error) {
	class := bits.Len(uint((n - 1) / smallest))
	room := smallest << class
	if err := p.budget.Acquire(ctx, int64(2*room)); err != nil {
		return nil, err
	}
	if f, ok := p.pools[class].Get().(*frame); ok {
		f.content, f.packed = f.content[:0], f.packed[:0]
		return f, nil
	}
	return &frame{content: make([]byte, 0, room), packed: make([]byte, 0, maxLength(int64(room))), class: class}, nil
}

// release gives a frame and its part of the budget back.
func (p *pipeline) release(f *frame) {
	p.budget.Release(int64(2 * (smallest << f.class)))
	p.pools[f.class].Put(f)
}

// send hands a filled frame to the stages that follow.
func (p *pipeline) send(ctx context.Context, f *frame) error {
	f.busy.Add(2)
	for i, stage := range []chan *frame{p.order, p.work, p.hash} {
		select {
		case stage <- f:
		case <-ctx.Done():
			// The stages that did not get the frame must not be waited for; the
			// first that got it is the output.
			if i > 0 {
				f.busy.Add(i - 3)
			}
			return ctx.Err()
		}
	}
	return nil
}
