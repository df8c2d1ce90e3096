package writelog

import (
	"fmt"
	"io"
)

// ref says who wrote a sector: the number of an entry of the log, from 1, and the
// sector in its data. 0 is nobody: the disk before the log has it.
type ref uint64

func newRef(entry int, sector uint64) ref { return ref(entry+1)<<32 | ref(sector) }

// sector is what a ref stands for; nil for zeros.
func (l *Log) sector(r ref) []byte {
	e := &l.entries[r>>32-1]
	if e.kind == kindDiscard {
		return nil
	}
	at := int(r&(1<<32-1)) * SectorSize
	return e.data[at : at+SectorSize]
}

// block is perBlock neighbouring sectors. Writes are seldom smaller.
type block [perBlock]ref

const (
	perBlock  = 8
	blockSize = perBlock * SectorSize
)

// layer is what some writes made of a disk, by the number of the block.
type layer map[uint64]*block

func (l layer) put(sector uint64, r ref) {
	b := l[sector/perBlock]
	if b == nil {
		b = new(block)
		l[sector/perBlock] = b
	}
	b[sector%perBlock] = r
}

func (l layer) get(sector uint64) ref {
	if b := l[sector/perBlock]; b != nil {
		return b[sector%perBlock]
	}
	return 0
}

// Replay goes through a log in its order and is, for each cut, the disk as the cut
// left it. What changed is kept as pointers into the log; nothing is copied.
type Replay struct {
	log     *Log
	base    io.ReaderAt
	size    int64
	done    int             // entries that are durable
	durable layer           // what they wrote
	pending layer           // what arrived of the present cut's epoch
	changed map[uint64]bool // blocks that are other than at the Seek before; see Image
}

// Replay begins at the disk before the log, which has size bytes.
func (l *Log) Replay(base io.ReaderAt, size int64) (*Replay, error) {
	for i := range l.entries {
		if e := &l.entries[i]; e.sector+e.sectors > uint64(size)/SectorSize {
			return nil, fmt.Errorf("entry %d of the log ends at sector %d, the disk at %d", i, e.sector+e.sectors, size/SectorSize)
		}
	}
	return &Replay{log: l, base: base, size: size, durable: make(layer)}, nil
}

// Seek makes r the disk after a cut. Cuts must come in the order of their epochs.
func (r *Replay) Seek(c Cut) error {
	from, _ := r.log.At(c)
	if from < r.done {
		return fmt.Errorf("%v comes before what was replayed", c)
	}
	r.changed = make(map[uint64]bool)
	r.note(r.pending)
	became := make(layer)
	for ; r.done < from; r.done++ {
		if e := &r.log.entries[r.done]; e.kind == kindWrite || e.kind == kindDiscard {
			for s := range e.sectors {
				r.durable.put(e.sector+s, newRef(r.done, s))
				became.put(e.sector+s, 1)
			}
		}
	}
	r.note(became)
	r.pending = make(layer)
	r.log.arrived(c, func(i int, from, to uint64) {
		for s := from; s < to; s++ {
			r.pending.put(r.log.entries[i].sector+s, newRef(i, s))
		}
	})
	r.note(r.pending)
	return nil
}

func (r *Replay) note(l layer) {
	for b := range l {
		r.changed[b] = true
	}
}

// Size is the disk's size in bytes.
func (r *Replay) Size() int64 { return r.size }

// ref is who wrote a sector.
func (r *Replay) ref(sector uint64) ref {
	if w := r.pending.get(sector); w != 0 {
		return w
	}
	return r.durable.get(sector)
}

// touched reports whether anything was written to a block.
func (r *Replay) touched(b uint64) bool { return r.durable[b] != nil || r.pending[b] != nil }

// ReadAt reads the disk as the cut left it.
func (r *Replay) ReadAt(p []byte, at int64) (n int, err error) {
	if at < 0 || at >= r.size {
		return 0, io.EOF
	}
	if rest := r.size - at; int64(len(p)) > rest {
		p, err = p[:rest], io.EOF
	}
	from := 0 // what comes from the base begins here
	fromBase := func(to int) error {
		if to == from {
			return nil
		}
		if n, err := r.base.ReadAt(p[from:to], at+int64(from)); n < to-from {
			return fmt.Errorf("reading the disk before the log: %w", err)
		}
		return nil
	}
	for n < len(p) {
		if !r.touched(uint64(at+int64(n)) / blockSize) {
			n = min(n+blockSize-int((at+int64(n))%blockSize), len(p))
			continue
		}
		offset := int((at + int64(n)) % SectorSize)
		part := min(SectorSize-offset, len(p)-n)
		if w := r.ref(uint64(at+int64(n)) / SectorSize); w != 0 {
			if err := fromBase(n); err != nil {
				return from, err
			}
			if data := r.log.sector(w); data == nil {
				clear(p[n : n+part])
			} else {
				copy(p[n:n+part], data[offset:])
			}
			from = n + part
		}
		n += part
	}
	if err := fromBase(n); err != nil {
		return from, err
	}
	return n, err
}
