package pack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// Options says how Write works. The zero value is good.
type Options struct {
	Level       int               // as zstd's command numbers them; 0 means 3
	Concurrency int               // frames compressed at once, at most 8; 0 means one a processor
	Progress    progress.Reporter // nil reports to nobody
}

// Result describes the blob that Write wrote.
type Result struct {
	Index   *Index
	Size    int64  // bytes of the blob
	SHA256  string // of the blob, 64 hexadecimal digits
	TarSize int64  // bytes of the tar
	DiffID  string // "sha256:" and the digest of the tar, as the OCI image configuration names it
}

// maxConcurrency bounds the memory that Write takes; the one goroutine that
// hashes the tar keeps no more compressors busy.
const maxConcurrency = 8

// perFrame is what one frame of MaxFrame bytes occupies while it is in work: its
// content, and room for as much again compressed.
const perFrame = 2 * MaxFrame

// Write packs t into w. open gives the content of a regular file that is not
// inline, which must have exactly the node's size. The bytes depend on the tree,
// the contents and the level, never on the concurrency.
//
// The contents are read by one goroutine, compressed by several, the tar hashed
// by another, and the blob hashed and written, in order, by the last.
func Write(ctx context.Context, w io.Writer, t *tree.Tree, open func(*tree.Node) (io.ReadCloser, error), o Options) (Result, error) {
	list, err := entries(t)
	if err != nil {
		return Result{}, err
	}
	n := o.Concurrency
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	n = min(n, maxConcurrency)
	if o.Level == 0 {
		o.Level = 3
	}
	if o.Progress == nil {
		o.Progress = progress.None
	}
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(o.Level)),
		zstd.WithEncoderConcurrency(n),
		zstd.WithWindowSize(MaxFrame),
		zstd.WithEncoderCRC(false)) // the layer's digest and the objects' digests cover it
	if err != nil {
		return Result{}, fmt.Errorf("preparing zstd: %w", err)
	}
	defer enc.Close()

	total := int64(0)
	for i := range list {
		total += block + list[i].size()
	}
	o.Progress.Stage("packing", total, progress.Bytes)

	p := &pipeline{
		budget: semaphore.NewWeighted(int64(n+2) * perFrame),
		work:   make(chan *frame, 2*n),
		hash:   make(chan *frame, 2*n),
		order:  make(chan *frame, (n+2)*perFrame/(2*smallest)),
	}
	cutter := &cutter{open: open, pipeline: p}
	out := &output{w: w, sum: sha256.New(), progress: o.Progress, pipeline: p}
	diff := sha256.New()

	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		// Whatever happens, the stages after this one see their channels closed
		// and finish every frame that was sent.
		defer func() { close(p.work); close(p.hash); close(p.order) }()
		return cutter.run(gctx, list)
	})
	for range n {
		g.Go(func() error {
			for f := range p.work {
				f.packed = enc.EncodeAll(f.content, f.packed[:0])
				f.busy.Done()
			}
			return nil
		})
	}
	g.Go(func() error {
		hashFrames(diff, p.hash)
		return nil
	})
	g.Go(func() error { return out.run() })
	if err := g.Wait(); err != nil {
		return Result{}, err
	}
	x := &Index{Frames: out.frames, Objects: cutter.objects}
	cutter.place(x)
	return Result{
		Index:   x,
		Size:    x.BlobSize(),
		SHA256:  hex.EncodeToString(out.sum.Sum(nil)),
		TarSize: x.TarSize(),
		DiffID:  "sha256:" + hex.EncodeToString(diff.Sum(nil)),
	}, nil
}

// hashFrames adds the content of the frames to sum.
func hashFrames(sum hash.Hash, frames <-chan *frame) {
	for f := range frames {
		sum.Write(f.content)
		f.busy.Done()
	}
}

// output writes finished frames in order.
type output struct {
	w        io.Writer
	sum      hash.Hash // of the blob
	frames   []Frame
	progress progress.Reporter
	pipeline *pipeline
}

// run writes the frames as they come. After an error it takes no more of them:
// the error cancels the context that the cutter waits on.
func (o *output) run() error {
	var at Frame
	for f := range o.pipeline.order {
		f.busy.Wait()
		if _, err := o.w.Write(f.packed); err != nil {
			return fmt.Errorf("writing the pack: %w", err)
		}
		o.sum.Write(f.packed)
		at.Length, at.Size = int64(len(f.packed)), int64(len(f.content))
		o.frames = append(o.frames, at)
		o.progress.Add(at.Size)
		at.Offset += at.Length
		at.Start += at.Size
		o.pipeline.release(f)
	}
	return nil
}
