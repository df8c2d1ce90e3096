package etc

import "slices"

// maxEdits bounds the work and memory of comparing two files: more different
// lines than that is no edit of a configuration file but another file.
const maxEdits = 1000

// hunk says that base[start:end] became text.
type hunk struct {
	start, end int
	text       []string
}

// merge3 merges by lines. ok is false where both sides changed the same or
// touching lines differently: two edits next to each other may well be about
// one thing, and only a person can tell.
func merge3(base, mine, theirs []string) (merged []string, ok bool) {
	a, okA := diff(base, mine)
	b, okB := diff(base, theirs)
	if !okA || !okB {
		return nil, false
	}
	pos := 0
	take := func(h hunk) {
		merged = append(append(merged, base[pos:h.start]...), h.text...)
		pos = h.end
	}
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].end < b[0].start:
			take(a[0])
			a = a[1:]
		case len(a) == 0 || b[0].end < a[0].start:
			take(b[0])
			b = b[1:]
		case a[0].start == b[0].start && a[0].end == b[0].end && slices.Equal(a[0].text, b[0].text):
			take(a[0])
			a, b = a[1:], b[1:]
		default:
			return nil, false
		}
	}
	return append(merged, base[pos:]...), true
}

// diff returns the hunks that turn a into b, in order and never touching. It is
// the greedy algorithm of E. Myers, "An O(ND) Difference Algorithm and Its
// Variations" (1986), on what is left between a common beginning and end.
func diff(a, b []string) (hunks []hunk, ok bool) {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	a, b = a[head:len(a)-tail], b[head:len(b)-tail]
	trace, ok := search(a, b)
	if !ok {
		return nil, false
	}
	// Walk back from the end; each step is one line removed or added, behind a
	// run of equal lines.
	x, y := len(a), len(b)
	for d := len(trace) - 1; d > 0; d-- {
		k := x - y
		prevK := k - 1
		if goesDown(trace[d-1], d, k) {
			prevK = k + 1
		}
		px := trace[d-1][prevK+d-1]
		py := px - prevK
		h := hunk{start: head + px, end: head + px}
		if prevK == k-1 { // a[px] removed
			h.end++
		} else { // b[py] added
			h.text = b[py : py+1]
		}
		x, y = px, py
		if n := len(hunks); n > 0 && h.end == hunks[n-1].start {
			// No equal line between this step and the one after it: one hunk.
			last := &hunks[n-1]
			last.start = h.start
			last.text = append(slices.Clone(h.text), last.text...)
			continue
		}
		hunks = append(hunks, h)
	}
	slices.Reverse(hunks)
	return hunks, true
}

// search returns, for each number d of edits, the furthest x reached on each
// diagonal k = x-y from -d to d, at index k+d.
func search(a, b []string) (trace [][]int, ok bool) {
	for d := 0; d <= maxEdits; d++ {
		v := make([]int, 2*d+1)
		trace = append(trace, v)
		for k := -d; k <= d; k += 2 {
			x := 0
			switch {
			case d == 0:
			case goesDown(trace[d-1], d, k):
				x = trace[d-1][k+1+d-1]
			default:
				x = trace[d-1][k-1+d-1] + 1
			}
			for x < len(a) && x-k < len(b) && x-k >= 0 && a[x] == b[x-k] {
				x++
			}
			v[k+d] = x
			if x >= len(a) && x-k >= len(b) {
				return trace, true
			}
		}
	}
	return nil, false
}

// goesDown reports whether diagonal k is reached in step d by adding a line of
// b (from diagonal k+1) and not by removing one of a (from k-1).
func goesDown(prev []int, d, k int) bool {
	if k == -d {
		return true
	}
	if k == d {
		return false
	}
	return prev[k-1+d-1] < prev[k+1+d-1]
}
