package torture

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"github.com/ashlar-os/ashlar/internal/vmtest/writelog"
)

// trait is what cuts may have in common.
type trait struct {
	doing, phase string
	fate         writelog.Fate
	esp          string // "written" or not, in the cut's epoch
}

// Sample chooses cuts to boot from, so that there are as many of each thing that
// Ashlar does as of any other. Then come its phases, whether the ESP was being written,
// and what became of the writes. The same seed gives the same, and of a sample the first
// are a sample.
func (j *Judge) Sample(cuts []writelog.Cut, n int, seed uint64) []writelog.Cut {
	type candidate struct {
		writelog.Cut
		traits []trait // in the order of their weight
	}
	var rest []candidate
	for _, c := range cuts {
		d, esp := j.Demands(c), "not"
		if j.log.Writes(c, j.esp.Section) {
			esp = "written"
		}
		rest = append(rest, candidate{c, []trait{
			{doing: d.Doing}, {phase: d.Phase}, {doing: d.Doing, esp: esp}, {fate: c.Fate}, {doing: d.Doing, fate: c.Fate},
		}})
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	rng.Shuffle(len(rest), func(a, b int) { rest[a], rest[b] = rest[b], rest[a] })

	used := make(map[trait]int)
	rarer := func(a, b candidate) int {
		return slices.CompareFunc(a.traits, b.traits, func(a, b trait) int { return cmp.Compare(used[a], used[b]) })
	}
	var sample []writelog.Cut
	for n = min(n, len(rest)); len(sample) < n; {
		i := 0
		for k := range rest {
			if rarer(rest[k], rest[i]) < 0 {
				i = k
			}
		}
		for _, t := range rest[i].traits {
			used[t]++
		}
		sample = append(sample, rest[i].Cut)
		rest = slices.Delete(rest, i, i+1)
	}
	return sample
}
