package crashtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Sectors calls fn for the images that a cut may leave, at each number of
// operations done of the log.
//
// Sectors of names and of the table go by themselves: every combination of their
// versions where there are at most 512, and otherwise each alone, each missing and
// some at random. Sectors of data come with all of them, none, the first half, or
// every other one.
func (v *VFAT) Sectors(before Image, ops int, seed uint64, fn func(cut int, image Image)) {
	rng := rand.New(rand.NewPCG(seed, 3))
	seen := make(map[string]bool)
	for cut := range ops + 1 {
		base, pending, id := v.pendingAt(before, cut)
		v.combine(base, pending, id, rng, seen, func(image Image) { fn(cut, image) })
	}
}

// InOrder calls fn for the images that a cut may leave where the mount has dirsync
// and the drive keeps the order: every prefix of what was written. Of data it is
// the whole of an operation's.
func (v *VFAT) InOrder(before Image, fn func(cut int, image Image)) {
	image := before.clone()
	fn(0, image.clone())
	for i, p := range v.patches {
		image.patch(p.sector, p.at, p.data)
		if i+1 == len(v.patches) || p.kind != dataPatch || v.patches[i+1].op != p.op {
			fn(p.op, image.clone())
		}
	}
}

// pendingAt is the image with what was flushed before a cut, and the patches
// that were not; id tells one base from another.
func (v *VFAT) pendingAt(before Image, cut int) (image Image, pending []*patch, id string) {
	image = before.clone()
	n := 0
	for _, p := range v.patches {
		switch {
		case p.op > cut:
		case p.flushed > 0 && p.flushed <= cut:
			image.patch(p.sector, p.at, p.data)
			n++
		default:
			pending = append(pending, p)
		}
	}
	return image, pending, decimal(n)
}

// At is the image at a cut with nothing but what was flushed, and with everything.
func (v *VFAT) At(before Image, cut int) (least, most Image) {
	least, pending, _ := v.pendingAt(before, cut)
	return least, least.with(pending)
}

func (m Image) with(patches []*patch) Image {
	image := m.clone()
	for _, p := range patches {
		image.patch(p.sector, p.at, p.data)
	}
	return image
}

// version is how many of the patches of a sector have arrived, and whether those
// that come with an inode are among them.
type version struct {
	count  int
	inodes bool
}

// combine enumerates versions of sectors, independent of each other. What was
// tried on the same base is in seen.
func (v *VFAT) combine(base Image, pending []*patch, id string, rng *rand.Rand, seen map[string]bool, fn func(Image)) {
	var sectors, data []uint32
	of := make(map[uint32][]*patch)
	for _, p := range pending {
		switch {
		case len(of[p.sector]) > 0:
		case p.kind == dataPatch:
			data = append(data, p.sector)
		default:
			sectors = append(sectors, p.sector)
		}
		of[p.sector] = append(of[p.sector], p)
	}
	choices := make([][]version, len(sectors))
	for i, s := range sectors {
		choices[i] = versions(of[s])
	}
	for _, picks := range combinations(choices, rng) {
		for fate := range dataFates(len(data)) {
			var patches []*patch
			key := fmt.Appendf(nil, "%s %d %d", id, len(data), fate)
			for i, s := range sectors {
				for _, p := range of[s][:picks[i].count] {
					if p.kind != inodePatch || picks[i].inodes {
						patches = append(patches, p)
						key = fmt.Appendf(key, " %p", p)
					}
				}
			}
			for i, s := range data {
				if dataArrived(fate, i, len(data)) {
					patches = append(patches, of[s]...)
				}
			}
			if !seen[string(key)] {
				seen[string(key)] = true
				fn(base.with(patches))
			}
		}
	}
}

// combinations chooses one version of each sector, in every way or, where those are
// too many, in the most telling ones and some others.
func combinations(choices [][]version, rng *rand.Rand) (list [][]version) {
	pick := func(fn func(i int) version) {
		picks := make([]version, len(choices))
		for i := range picks {
			picks[i] = fn(i)
		}
		list = append(list, picks)
	}
	const all = 512
	total := 1
	for _, c := range choices {
		total = min(total*len(c), all+1)
	}
	if total <= all {
		for n := range total {
			pick(func(i int) version {
				c := choices[i]
				w := c[n%len(c)]
				n /= len(c)
				return w
			})
		}
		return list
	}
	first := func(i int) version { return choices[i][0] }
	last := func(i int) version { return choices[i][len(choices[i])-1] }
	for one := range choices {
		for _, w := range choices[one] {
			for _, others := range []func(int) version{first, last} {
				pick(func(i int) version {
					if i == one {
						return w
					}
					return others(i)
				})
			}
		}
	}
	for range 32 {
		pick(func(i int) version { return choices[i][rng.IntN(len(choices[i]))] })
	}
	return list
}

// versions lists what a sector may hold. Of a table's many versions, in which one
// entry more is written each, the first, a middle and the last are tried.
func versions(list []*patch) (all []version) {
	counts := make([]int, 0, len(list)+1)
	for n := range len(list) + 1 {
		counts = append(counts, n)
	}
	if list[0].kind == tablePatch {
		counts = slices.Compact([]int{0, (len(list) + 1) / 2, len(list)})
	}
	for _, n := range counts {
		lazy := slices.ContainsFunc(list[:n], func(p *patch) bool { return p.kind == inodePatch })
		if lazy {
			all = append(all, version{n, false})
		}
		if !lazy || list[n-1].kind == inodePatch || n == len(list) {
			all = append(all, version{n, true})
		}
	}
	return all
}

func dataFates(sectors int) int {
	if sectors == 0 {
		return 1
	}
	return 4
}

func dataArrived(fate, i, n int) bool {
	switch fate {
	case 0:
		return true
	case 1:
		return false
	case 2:
		return i < n/2
	}
	return i%2 == 0
}
