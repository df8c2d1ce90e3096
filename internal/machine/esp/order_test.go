package esp

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/release"
)

// TestSortFacts shuffles random directories, ours and foreign, and checks each
// sorted pair against the facts of docs/esp.md.
func TestSortFacts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	for range 500 {
		var list []Entry
		for i := range 2 + r.IntN(7) {
			e := Entry{
				Name: fmt.Sprintf("%s%d", pick("ashlar_", "Arch", "x-"), i), SortKey: pick("", "a", "b"),
				SortVersion: pick("", "1", "1.0", "1.10", "1.9", "1.9~rc1"), Ignored: pick("", "", "", "broken"),
			}
			counters := [][2]int{{NoCounter, 0}, {3, 0}, {2, 1}, {0, 3}, {0, 0}}
			c := counters[r.IntN(len(counters))]
			list = append(list, e.WithCounter(c[0], c[1]))
		}
		sorted := slices.Clone(list)
		Sort(sorted)
		for i, a := range sorted {
			for _, b := range sorted[i+1:] {
				if fact := broken(a, b); fact != "" {
					t.Fatalf("%q stands before %q: %s", a.File, b.File, fact)
				}
			}
		}
		for range 3 {
			r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			again := slices.Clone(list)
			Sort(again)
			if !slices.Equal(again, sorted) {
				t.Fatalf("the order depends on the directory's: %+v, %+v", again, sorted)
			}
		}
		next, ok := Next(list)
		if ok != (sorted[0].Ignored == "") || ok && next != sorted[0] {
			t.Fatalf("next is %+v, %v", next, ok)
		}
	}
}

// broken names the fact that a standing before b breaks.
func broken(a, b Entry) string {
	newer := func(x, y string) bool { return release.CompareVersions(x, y) > 0 }
	switch {
	case a.Ignored != b.Ignored:
		if a.Ignored != "" {
			return "what is passed over is last"
		}
	case a.Exhausted() != b.Exhausted():
		if a.Exhausted() {
			return "no tries left is behind the others"
		}
	case (a.SortKey == "") != (b.SortKey == ""):
		if a.SortKey == "" {
			return "no sort key is behind those with one"
		}
	case a.SortKey > b.SortKey:
		return "sort keys ascend"
	case a.SortKey == b.SortKey && a.SortKey != "" && newer(b.SortVersion, a.SortVersion):
		return "versions descend"
	case a.SortKey == b.SortKey && (a.SortKey == "" || !newer(a.SortVersion, b.SortVersion)) &&
		newer(strings.ToLower(b.File), strings.ToLower(a.File)):
		return "file names descend"
	}
	return ""
}
