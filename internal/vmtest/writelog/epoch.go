package writelog

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// epoch is what was written between two flushes: entries[from:to], the flush
// that ended it not included.
type epoch struct{ from, to int }

// divide finds the epochs. One that has no writes is none; the last one, which
// no flush ended, is.
func (l *Log) divide() {
	from, some := 0, false
	for i := range l.entries {
		switch l.entries[i].kind {
		case kindFlush:
			if some {
				l.epochs = append(l.epochs, epoch{from, i})
			}
			from, some = i+1, false
		case kindWrite, kindDiscard:
			some = true
		}
	}
	if some {
		l.epochs = append(l.epochs, epoch{from, len(l.entries)})
	}
}

// Epochs is the number of epochs, which are counted from 0.
func (l *Log) Epochs() int { return len(l.epochs) }

// Fate is what becomes of an epoch's writes in a cut.
type Fate string

// See the package's documentation.
const (
	Dropped Fate = "dropped"
	Prefix  Fate = "prefix"
	Some    Fate = "some"
	Torn    Fate = "torn"
	Only    Fate = "only"
	Missing Fate = "missing"
)

// fates are those that need a seed, in the order in which they are tried.
var fates = []Fate{Some, Torn, Prefix, Only, Missing}

// Cut is one power cut. Its fields say all: the same cut of the same log is the
// same disk, at any time.
type Cut struct {
	Epoch int    `json:"epoch"`
	Fate  Fate   `json:"fate"`
	Seed  uint64 `json:"seed"`
}

func (c Cut) String() string { return fmt.Sprintf("epoch %d, %s, seed %d", c.Epoch, c.Fate, c.Seed) }

// Cuts lists cuts in the log's order: of each epoch the one in which it was
// dropped, and some others where there are different ones, whose fates take turns over
// the epochs.
func (l *Log) Cuts(seed uint64, others int) []Cut {
	var list []Cut
	for i, e := range l.epochs {
		list = append(list, Cut{Epoch: i, Fate: Dropped})
		if e.to-e.from == 1 {
			if l.entries[e.from].sectors > 1 {
				list = append(list, Cut{Epoch: i, Fate: Torn, Seed: seed})
			}
			continue
		}
		for n := range others {
			list = append(list, Cut{Epoch: i, Fate: fates[(i*others+n)%len(fates)], Seed: seed + uint64(n/len(fates))})
		}
	}
	if n := len(l.epochs); n > 0 {
		list = append(list, Cut{Epoch: n, Fate: Dropped}) // everything arrived
	}
	return list
}

// At is the span of moments at which the power may have been cut: after so many
// entries at least, and before so many.
func (l *Log) At(c Cut) (from, to int) {
	if c.Epoch >= len(l.epochs) {
		return len(l.entries), len(l.entries)
	}
	return l.epochs[c.Epoch].from, l.epochs[c.Epoch].to
}

// Writes reports whether anything of a section was written in a cut's epoch.
func (l *Log) Writes(c Cut, s Section) bool {
	from, to := l.At(c)
	for i := from; i < to; i++ {
		if e := &l.entries[i]; e.sectors > 0 && s.meets(e.at(), e.length()) {
			return true
		}
	}
	return false
}

// ForgetFlushes takes the log for that of a machine that never flushed, so that of
// all it wrote anything may be lost: whoever looks at such disks has to notice.
func (l *Log) ForgetFlushes() {
	l.entries = slices.Clone(l.entries)
	for i := range l.entries {
		if l.entries[i].kind == kindFlush {
			l.entries[i].kind = kindMark
		}
	}
	l.epochs = nil
	l.divide()
}

// arrived calls keep for those spans of sectors of an epoch's entries that are on
// the disk after a cut, in the order of the log.
func (l *Log) arrived(c Cut, keep func(entry int, from, to uint64)) {
	if c.Epoch >= len(l.epochs) {
		return
	}
	span := l.epochs[c.Epoch]
	rng := rand.New(rand.NewPCG(c.Seed, uint64(c.Epoch)<<8|uint64(c.Fate[0])))
	var list []int // the entries that write
	for i := span.from; i < span.to; i++ {
		if k := l.entries[i].kind; k == kindWrite || k == kindDiscard {
			list = append(list, i)
		}
	}
	chosen := rng.IntN(len(list))
	// A drive may have done little, half or most of its work.
	share := []float64{0.1, 0.5, 0.9}[rng.IntN(3)]
	for i, entry := range list {
		e := &l.entries[entry]
		here := e.fua
		switch c.Fate {
		case Prefix:
			here = here || i <= chosen
		case Only:
			here = here || i == chosen
		case Missing:
			here = here || i != chosen
		case Some:
			here = here || rng.Float64() < share
		case Torn:
			arrives, torn := rng.Float64() < share, rng.IntN(2) == 0 || len(list) == 1
			if arrives && torn && !e.fua {
				tear(rng, e.sectors, func(from, to uint64) { keep(entry, from, to) })
				continue
			}
			here = here || arrives
		}
		if here {
			keep(entry, 0, e.sectors)
		}
	}
}

// tear keeps a part of a write: its first sectors, its last ones, or any.
func tear(rng *rand.Rand, sectors uint64, keep func(from, to uint64)) {
	at := rng.Uint64N(sectors)
	switch rng.IntN(3) {
	case 0:
		if at > 0 {
			keep(0, at)
		}
	case 1:
		if at+1 < sectors {
			keep(at+1, sectors)
		}
	default:
		for s := range sectors {
			if rng.IntN(2) == 0 {
				keep(s, s+1)
			}
		}
	}
}
