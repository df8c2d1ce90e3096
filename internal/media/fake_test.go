package media

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/ashlar-os/ashlar/internal/media/drive"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// fakeDrive is a drive in memory. It keeps what is written by blocks, and a log
// of the writes, so that a test can say what a power cut would have left of it.
type fakeDrive struct {
	mu     sync.Mutex
	size   int64 // as it claims
	real   int64 // as it is
	wraps  bool  // what is beyond that lands at the beginning
	blocks map[int64][]byte
	flips  int64 // a block that comes back with a wrong bit; 0: none
	keeps  bool  // it cannot discard

	log     []written
	flushed int   // writes of the log that are on the medium for certain
	flushes []int // the length of the log at each flush
	stopAt  int   // fail after so many writes; 0: never
	read    int64 // bytes
}

type written struct {
	off  int64
	data []byte // nil: discarded
	n    int64
}

func newFakeDrive(size int64) *fakeDrive {
	return &fakeDrive{size: size, real: size, blocks: map[int64][]byte{}}
}

var errPulled = errors.New("the drive was pulled out")

func (d *fakeDrive) place(off int64) (int64, bool) {
	if off < d.real {
		return off, true
	}
	return off % d.real, d.wraps
}

func (d *fakeDrive) ReadAt(b []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off+int64(len(b)) > d.size {
		return 0, io.ErrUnexpectedEOF
	}
	d.read += int64(len(b))
	for i := 0; i < len(b); i += drive.Block {
		part := b[i:min(i+drive.Block, len(b))]
		clear(part)
		if at, ok := d.place(off + int64(i)); ok {
			copy(part, d.blocks[at])
			if d.flips != 0 && at == d.flips {
				part[100] ^= 4
			}
		}
	}
	return len(b), nil
}

func (d *fakeDrive) WriteAt(b []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off%drive.Block != 0 || off+int64(len(b)) > d.size {
		return 0, fmt.Errorf("write of %d bytes at %d", len(b), off)
	}
	if d.stopAt > 0 && len(d.log) >= d.stopAt {
		return 0, errPulled
	}
	d.log = append(d.log, written{off, bytes.Clone(b), int64(len(b))})
	d.apply(d.log[len(d.log)-1])
	return len(b), nil
}

func (d *fakeDrive) apply(w written) {
	for i := int64(0); i < w.n; i += drive.Block {
		at, ok := d.place(w.off + i)
		switch {
		case !ok:
		case w.data == nil:
			delete(d.blocks, at)
		default:
			d.blocks[at] = w.data[i:min(i+drive.Block, w.n)]
		}
	}
}

func (d *fakeDrive) Discard(off, n int64) error {
	if d.keeps {
		return errors.ErrUnsupported
	}
	return d.Zero(off, n)
}

func (d *fakeDrive) Zero(off, n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopAt > 0 && len(d.log) >= d.stopAt {
		return errPulled
	}
	d.log = append(d.log, written{off, nil, n})
	d.apply(d.log[len(d.log)-1])
	return nil
}

func (d *fakeDrive) Flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flushed = len(d.log)
	d.flushes = append(d.flushes, d.flushed)
	return nil
}

func (d *fakeDrive) Size() int64   { return d.size }
func (d *fakeDrive) Forget() error { return nil }
func (d *fakeDrive) Close() error  { return nil }

// after is the drive as a power cut leaves it that comes after n entries of the
// log: what was flushed by then is there, and of the rest whatever coin says.
func (d *fakeDrive) after(before *fakeDrive, n int, coin func() bool) *fakeDrive {
	left := newFakeDrive(d.size)
	for at, b := range before.blocks {
		left.blocks[at] = b
	}
	certain := 0
	for _, f := range d.flushes {
		if f <= n {
			certain = f
		}
	}
	for i, w := range d.log[:n] {
		if i < certain || coin() {
			left.apply(w)
		}
	}
	return left
}

// image is a made-up medium: pieces with random content, and holes between.
type image struct {
	size   int64
	pieces []piece
	data   map[int64][]byte
}

func newImage(seed uint64, size int64) *image {
	random := rand.NewChaCha8([32]byte{byte(seed)})
	r := rand.New(random)
	m := &image{size: size, data: map[int64][]byte{}}
	for off := int64(0); off < size; {
		length := min(int64(1+r.IntN(80))*drive.Block, size-off)
		b := drive.Buffer(int(length))
		random.Read(b)
		if off == 0 { // a boot sector, and a partition table
			b[510], b[511] = 0x55, 0xaa
			copy(b[512:], "EFI PART")
		}
		m.add(off, b)
		off += length
		if r.IntN(3) == 0 {
			off += int64(1+r.IntN(40)) * drive.Block
		}
	}
	return m
}

func (m *image) add(off int64, b []byte) {
	m.data[off] = b
	m.pieces = append(m.pieces, piece{
		offset: off, length: int64(len(b)), sha256: sha256.Sum256(b),
		read: func(into []byte) error { copy(into, b); return nil },
	})
}

func (m *image) burn(d drive.Device, about string) *burn {
	return &burn{dev: d, name: "/dev/fake", about: about, size: m.size, pieces: slices.Clone(m.pieces), report: progress.None}
}

// on says whether a drive holds the whole image, and which byte is the first that is wrong.
func (m *image) on(d *fakeDrive) (int64, bool) {
	for _, p := range m.pieces {
		b := make([]byte, p.length)
		if _, err := d.ReadAt(b, p.offset); err != nil {
			return p.offset, false
		}
		for i := range b {
			if b[i] != m.data[p.offset][i] {
				return p.offset + int64(i), false
			}
		}
	}
	for _, h := range holesOf(m.pieces, m.size) {
		for off := h.from; off < h.to; off += drive.Block {
			b := make([]byte, drive.Block)
			if d.ReadAt(b, off); !bytes.Equal(b, zeros[:]) {
				return off, false
			}
		}
	}
	return 0, true
}

// boots says whether firmware would find anything to start: it needs a boot
// sector's signature, without which it looks at no partition table, not at the
// backup either; or the volume descriptors of a CD.
func boots(d *fakeDrive) bool {
	b := make([]byte, headEnd)
	d.ReadAt(b, 0)
	return b[510] == 0x55 && b[511] == 0xaa || string(b[32769:32774]) == "CD001"
}

// filled is a drive that something was on before, which boots.
func filled(size int64) *fakeDrive {
	d := newFakeDrive(size)
	for off := int64(0); off < size; off += drive.Block {
		b := bytes.Repeat([]byte{byte(off >> 12), 0xdb}, drive.Block/2)
		d.blocks[off] = b
	}
	d.blocks[0][510], d.blocks[0][511] = 0x55, 0xaa
	copy(d.blocks[size-drive.Block][drive.Block-512:], "EFI PART")
	return d
}

func mustRun(t *testing.T, w *burn) Written {
	t.Helper()
	got, err := w.run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return got
}
