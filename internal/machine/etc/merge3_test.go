package etc

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// applyHunks applies hunks, as a check of diff.
func applyHunks(a []string, hunks []hunk) (out []string) {
	pos := 0
	for _, h := range hunks {
		out = append(append(out, a[pos:h.start]...), h.text...)
		pos = h.end
	}
	return append(out, a[pos:]...)
}

func randomLines(r *rand.Rand, n int) []string {
	out := make([]string, r.IntN(n))
	for i := range out {
		out[i] = string(rune('a'+r.IntN(4))) + "\n"
	}
	return out
}

func TestDiffLines(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 5000 {
		a, b := randomLines(r, 12), randomLines(r, 12)
		hunks, ok := diff(a, b)
		if !ok || !slices.Equal(applyHunks(a, hunks), b) {
			t.Fatalf("%q to %q: %v, %v", a, b, hunks, ok)
		}
		for i, h := range hunks {
			if i > 0 && h.start <= hunks[i-1].end {
				t.Fatalf("%q to %q: hunks touch: %v", a, b, hunks)
			}
		}
	}
}

func TestDiffIsShortest(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for range 1000 {
		a, b := randomLines(r, 10), randomLines(r, 10)
		// The longest common subsequence by the textbook's table.
		table := make([][]int, len(a)+1)
		for i := range table {
			table[i] = make([]int, len(b)+1)
		}
		for i := range a {
			for j := range b {
				if a[i] == b[j] {
					table[i+1][j+1] = table[i][j] + 1
				} else {
					table[i+1][j+1] = max(table[i][j+1], table[i+1][j])
				}
			}
		}
		want := len(a) + len(b) - 2*table[len(a)][len(b)]
		got := 0
		hunks, _ := diff(a, b)
		for _, h := range hunks {
			got += h.end - h.start + len(h.text)
		}
		// Trimming a common beginning and end never costs an edit.
		if got != want {
			t.Fatalf("%q to %q: %d edits, want %d", a, b, got, want)
		}
	}
}

func TestDiffGivesUp(t *testing.T) {
	a, b := make([]string, 3*maxEdits), make([]string, 3*maxEdits)
	for i := range a {
		a[i], b[i] = strings.Repeat("a", i%7), "x"
	}
	if _, ok := diff(a, b); ok {
		t.Error("compared what has nothing in common")
	}
}

// TestMerge3AgainstDiff3 compares with GNU diff3 where that is installed: what
// it calls a clean merge may be a conflict here (edits that touch), but what
// is clean here must be clean there and the same.
func TestMerge3AgainstDiff3(t *testing.T) {
	diff3, err := exec.LookPath("diff3")
	if err != nil {
		t.Log("no diff3 here; TestMergeLaws stands alone")
		return
	}
	r := rand.New(rand.NewPCG(3, 3))
	clean := 0
	for range 150 {
		base := randomLines(r, 12)
		edit := func() []string {
			out := slices.Clone(base)
			if len(out) == 0 {
				return out
			}
			out[r.IntN(len(out))] = string(rune('p'+r.IntN(5))) + "\n"
			return out
		}
		mine, theirs := edit(), edit()
		if slices.Equal(mine, theirs) {
			continue // diff3 -m marks what both changed alike
		}
		merged, ok := merge3(base, mine, theirs)
		if !ok {
			continue
		}
		clean++
		dir := t.TempDir()
		var args []string
		for i, l := range [][]string{mine, base, theirs} {
			path := filepath.Join(dir, string(rune('0'+i)))
			if err := os.WriteFile(path, []byte(strings.Join(l, "")), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, path)
		}
		out, err := exec.Command(diff3, append([]string{"-m"}, args...)...).Output()
		if err != nil || string(out) != strings.Join(merged, "") {
			t.Fatalf("base %q mine %q theirs %q: %q, diff3 says %q, %v", base, mine, theirs, merged, out, err)
		}
	}
	if clean < 50 {
		t.Errorf("only %d of the merges were clean", clean)
	}
}

func FuzzMerge3(f *testing.F) {
	f.Add("a\nb\nc\n", "a\nx\nc\n", "a\nb\nc\nd")
	f.Fuzz(func(t *testing.T, base, mine, theirs string) {
		b, u, th := lines([]byte(base)), lines([]byte(mine)), lines([]byte(theirs))
		for _, c := range []struct{ u, t, want []string }{{u, b, u}, {b, th, th}, {u, u, u}} {
			if got, ok := merge3(b, c.u, c.t); ok && !slices.Equal(got, c.want) {
				t.Fatalf("%q, %q, %q give %q", b, c.u, c.t, got)
			}
		}
		one, ok1 := merge3(b, u, th)
		two, ok2 := merge3(b, th, u)
		if ok1 != ok2 || !slices.Equal(one, two) {
			t.Fatalf("the sides are not alike: %q, %v; %q, %v", one, ok1, two, ok2)
		}
	})
}
