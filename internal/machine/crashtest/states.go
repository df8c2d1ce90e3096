package crashtest

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
)

// pendingOps are the operations before a cut that no flush has covered.
type pendingOps struct {
	base  *Tree        // everything that is durable
	names []Op         // changes of names, and seals, in their order
	files map[int][]Op // changes of content, by file
	order []int        // of the files, as they were first written to
}

// pendingAt parts what was done before a cut into what is durable and what is not.
func (l *Log) pendingAt(cut int) *pendingOps {
	durable := make([]bool, cut)
	for i, flush := range l.Ops[:cut] {
		if flush.Kind != Fsync && flush.Kind != Syncfs {
			continue
		}
		for j, op := range l.Ops[:i] {
			switch {
			case flush.Kind == Syncfs:
				durable[j] = true
			case len(op.Slots) > 0:
				durable[j] = durable[j] || slices.ContainsFunc(op.Slots, func(s Slot) bool { return s.Dir == flush.Node })
			default:
				durable[j] = durable[j] || op.Node == flush.Node
			}
		}
	}
	p := &pendingOps{base: l.Before.clone(), files: make(map[int][]Op)}
	for i, op := range l.Ops[:cut] {
		switch {
		case durable[i]:
			p.base.apply(op)
		case len(op.Slots) > 0 || op.Kind == Seal:
			p.names = append(p.names, op)
		case op.Kind == Write || op.Kind == Truncate:
			if p.files[op.Node] == nil {
				p.order = append(p.order, op.Node)
			}
			p.files[op.Node] = append(p.files[op.Node], op)
		}
	}
	return p
}

// content is what has become of content that was not flushed.
type content byte

const (
	arrived content = iota // all of it
	lost                   // as it was at the last flush
	short                  // it ends early
	zeros                  // the length without the bytes
	late                   // the second half without the first
	contents
)

// with returns a file's bytes so.
func (c content) with(before, after []byte) []byte {
	half := len(after) / 2 / 512 * 512
	switch c {
	case lost:
		return before
	case short:
		return after[:half]
	case zeros:
		return make([]byte, len(after))
	case late:
		return append(make([]byte, half), after[half:]...)
	}
	return after
}

// Trees calls fn for every tree that a cut may leave, at each number of
// operations done: of the names every prefix, every one alone, every one missing,
// every subset where there are at most 64 and some at random where there are more;
// each with every fate of the content, and with mixed ones.
func (l *Log) Trees(seed uint64, fn func(cut int, t *Tree)) {
	rng := rand.New(rand.NewPCG(seed, 2))
	seen := make(map[string]bool)
	for cut := range len(l.Ops) + 1 {
		p := l.pendingAt(cut)
		for _, some := range subsets(len(p.names), rng) {
			for _, fate := range p.fates(rng) {
				key := p.key(some, fate)
				if seen[key] {
					continue
				}
				seen[key] = true
				fn(cut, p.tree(some, fate))
			}
		}
		if cut < len(l.Ops) && (l.Ops[cut].Kind == Fsync || l.Ops[cut].Kind == Syncfs) {
			clear(seen) // another base
		}
	}
}

func (p *pendingOps) tree(some []bool, fate []content) *Tree {
	t := p.base.clone()
	for i, op := range p.names {
		if some[i] {
			t.apply(op)
		}
	}
	for i, node := range p.order {
		before := t.nodes[node].Data
		for _, op := range p.files[node] {
			t.apply(op)
		}
		if !t.nodes[node].Sealed { // the flag is set when the content is on the disk
			t.nodes[node].Data = fate[i].with(before, t.nodes[node].Data)
		}
	}
	return t
}

// At is the tree at a cut with nothing but what was flushed, and with everything.
func (l *Log) At(cut int) (least, most *Tree) {
	p := l.pendingAt(cut)
	all := slices.Repeat([]bool{true}, len(p.names))
	return p.base, p.tree(all, slices.Repeat([]content{arrived}, len(p.order)))
}

// key tells apart what is done of the operations since the last flush.
func (p *pendingOps) key(some []bool, fate []content) string {
	var b strings.Builder
	for i, yes := range some {
		if yes {
			_ = binary.Write(&b, binary.LittleEndian, uint16(i))
		}
	}
	b.WriteByte('/')
	for i, c := range fate {
		_ = binary.Write(&b, binary.LittleEndian, [2]uint16{uint16(c), uint16(len(p.files[p.order[i]]))})
	}
	return b.String()
}

func (p *pendingOps) fates(rng *rand.Rand) (list [][]content) {
	if len(p.order) == 0 {
		return [][]content{nil}
	}
	for c := range contents {
		list = append(list, slices.Repeat([]content{c}, len(p.order)))
	}
	if len(p.order) > 1 {
		for range 2 {
			mixed := make([]content, len(p.order))
			for i := range mixed {
				mixed[i] = content(rng.IntN(int(contents)))
			}
			list = append(list, mixed)
		}
	}
	return list
}

// subsets chooses among n things.
func subsets(n int, rng *rand.Rand) (list [][]bool) {
	const all = 6
	pick := func(fn func(i int) bool) {
		some := make([]bool, n)
		for i := range some {
			some[i] = fn(i)
		}
		list = append(list, some)
	}
	if n <= all {
		for bits := range 1 << n {
			pick(func(i int) bool { return bits>>i&1 != 0 })
		}
		return list
	}
	for k := range n + 1 {
		pick(func(i int) bool { return i < k })
	}
	for k := range n {
		pick(func(i int) bool { return i == k })
		pick(func(i int) bool { return i != k })
	}
	for range 8 {
		pick(func(int) bool { return rng.IntN(2) == 0 })
	}
	return list
}
