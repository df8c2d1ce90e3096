package etc

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// randomTree makes a small tree of few names and few contents, so that trees
// often agree and often clash, also in type.
func randomTree(r *rand.Rand) files {
	f := files{}
	contents := []string{"", "A", "B", "A\nx\nB\n", "A\nx\nC\n", "D\nx\nB\n", "\x00", "-> a", "-> b", "#0600 A", "#0600 B"}
	for _, top := range []string{"a", "b", "d", "passwd"} {
		switch r.IntN(3) {
		case 0:
			f[top] = contents[r.IntN(len(contents))]
		case 1:
			f[top+"/"] = []string{"", "#0700"}[r.IntN(2)]
			for _, name := range []string{"a", "b", "c"} {
				switch r.IntN(4) {
				case 0, 1:
					f[top+"/"+name] = contents[r.IntN(len(contents))]
				case 2:
					f[top+"/"+name+"/"] = ""
					if r.IntN(2) == 0 {
						f[top+"/"+name+"/deep"] = contents[r.IntN(len(contents))]
					}
				}
			}
		}
	}
	return f
}

// upperOf is an upper directory that makes mine of base, as overlayfs would
// after somebody made those changes: sometimes it holds more than it must.
func upperOf(r *rand.Rand, base, mine files) files {
	up := files{}
	opaque := map[string]bool{}
	for name, content := range mine {
		plain := strings.TrimSuffix(name, "/")
		if base[name] != content || r.IntN(6) == 0 {
			up[name] = content
		} else if _, same := base[name]; !same {
			up[name] = content
		}
		// A directory that takes the place of a directory is opaque when it
		// was removed and made again.
		if _, was := base[plain+"/"]; was && name != plain && r.IntN(5) == 0 {
			opaque[plain] = true
		}
	}
	for dir := range opaque {
		for name, content := range mine {
			if strings.HasPrefix(name, dir+"/") {
				up[name] = content
			}
		}
		up[dir+"/"] += "!"
	}
	for name := range base {
		plain := strings.TrimSuffix(name, "/")
		_, file := mine[plain]
		_, dir := mine[plain+"/"]
		parent := filepath.Dir(plain)
		_, parentThere := mine[parent+"/"]
		if !file && !dir && (parent == "." || parentThere) && !insideOpaque(opaque, plain) {
			up[plain] = "!"
		}
	}
	// Parents of what is in the upper directory are in it too, as they are.
	for name := range maps.Clone(up) {
		for dir := filepath.Dir(strings.TrimSuffix(name, "/")); dir != "."; dir = filepath.Dir(dir) {
			if _, ok := up[dir+"/"]; !ok {
				up[dir+"/"] = mine[dir+"/"]
			}
		}
	}
	return up
}

func insideOpaque(opaque map[string]bool, name string) bool {
	for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
		if opaque[dir] {
			return true
		}
	}
	return false
}

// TestMergeLaws checks, on random trees of every type, what a three-way merge
// is: who changes nothing gets the other's, equal changes meet, and what the
// new upper directory holds is needed.
func TestMergeLaws(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 80 {
		base, mine, theirs := randomTree(r), randomTree(r), randomTree(r)
		upper := upperOf(r, base, mine)
		if got := view(base, upper); !maps.Equal(got, mine) {
			t.Fatalf("the test's own overlay is wrong: %q on %q gives %q, want %q", upper, base, got, mine)
		}
		law := func(name string, base, upper, theirs, want files) {
			t.Helper()
			s := newScene(t, base, upper, theirs)
			out := s.apply(t)
			if got := view(theirs, out); !maps.Equal(got, want) {
				t.Fatalf("%d, %s:\nbase   %q\nupper  %q\ntheirs %q\nout    %q\nshows  %q\nwant   %q", i, name, base, upper, theirs, out, got, want)
			}
		}
		law("only the image changed", base, upperOf(r, base, base), theirs, theirs)
		law("only the machine changed", base, upper, base, mine)
		law("both changed alike", base, upper, mine, mine)

		s := newScene(t, base, upper, mine)
		if out := s.apply(t); len(out) != 0 {
			t.Fatalf("%d: the image caught up, yet %q stays above", i, out)
		}
		s = newScene(t, base, upper, theirs)
		out, results := s.merge(t)
		conflict := false
		for _, r := range results {
			conflict = conflict || r == Conflict
		}
		// Merging the outcome once more onto the same image changes nothing.
		again := newScene(t, theirs, out, theirs)
		if out2 := again.apply(t); !maps.Equal(view(theirs, out2), view(theirs, out)) {
			t.Fatalf("%d: a second merge makes %q of %q", i, out2, out)
		}
		// Diff and the report agree on whether there is drift.
		changes, err := Diff(s.TheirsDir, s.OutUpper)
		if err != nil {
			t.Fatal(err)
		}
		if len(out) > 0 && len(changes) == 0 {
			t.Fatalf("%d: the new upper directory holds %q and no change (conflict %v)", i, out, conflict)
		}
	}
}

// TestMergeModel merges many plain files at once and compares with the whole
// of three-way merging in six lines.
func TestMergeModel(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 30 {
		base, mine, theirs := files{}, files{}, files{}
		want := files{}
		pick := func(f files, name string) {
			if n := r.IntN(4); n > 0 {
				f[name] = string(rune('A' + n))
			}
		}
		for _, dir := range []string{"", "d/", "d/e/"} {
			for n := range 20 {
				name := dir + "f" + string(rune('a'+n))
				pick(base, name)
				pick(mine, name)
				pick(theirs, name)
				b, u, th := base[name], mine[name], theirs[name]
				result := u
				if u == b {
					result = th
				} else if th != b && th != u && th != "" {
					want[name+NewSuffix] = th
				}
				if result != "" {
					want[name] = result
				}
			}
			for _, f := range []files{base, mine, theirs, want} {
				if dir != "" {
					f[dir] = ""
				}
			}
		}
		s := newScene(t, base, upperOf(r, base, mine), theirs)
		out, _ := s.merge(t)
		if got := view(theirs, out); !maps.Equal(got, want) {
			t.Fatalf("base %q\nmine %q\ntheirs %q\ngive %q\nwant %q", base, mine, theirs, got, want)
		}
	}
}

// TestKernelAgrees mounts the directories of the laws' kind and looks at them
// through overlayfs: the tests' idea of it must be the kernel's.
func TestKernelAgrees(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: overlayfs cannot be mounted, the other tests stand on their model of it")
		return
	}
	r := rand.New(rand.NewPCG(5, 6))
	for range 10 {
		base, mine := randomTree(r), randomTree(r)
		dir := t.TempDir()
		lower, upper, merged := filepath.Join(dir, "lower"), filepath.Join(dir, "upper"), filepath.Join(dir, "merged")
		base.write(t, lower)
		upperOf(r, base, mine).write(t, upper)
		mountOverlay(t, lower, upper, merged)
		if got := list(t, merged); !maps.Equal(got, mine) {
			t.Fatalf("the kernel shows %q, want %q", got, mine)
		}
	}
}
