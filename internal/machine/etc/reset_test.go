package etc

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// mountOverlay mounts upper on lower, as ashlar-init mounts /etc.
func mountOverlay(t testing.TB, lower, upper, merged string) {
	t.Helper()
	work := upper + "-work"
	for _, dir := range []string{work, merged} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	opts := "lowerdir=" + lower + ",upperdir=" + upper + ",workdir=" + work + ",redirect_dir=off,metacopy=off,index=off"
	if err := unix.Mount("overlay", merged, "overlay", 0, opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(merged, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func TestDiff(t *testing.T) {
	dir := t.TempDir()
	lower, upper := filepath.Join(dir, "lower"), filepath.Join(dir, "upper")
	files{
		"same": "1", "content": "1", "mode": "1", "both": "1", "gone": "1", "type": "1",
		"d/a": "1", "d/b": "1", "anew/a": "1", "anew/b": "1", "tree/x": "1",
	}.write(t, lower)
	files{
		"same": "1", "content": "2", "mode": "#0600 1", "both": "#0600 2", "gone": "!", "type": "-> x",
		"d/b": "1", "anew/": "!", "anew/b": "1", "tree": "!", "new/x": "1", "nothing": "!",
	}.write(t, upper)
	got, err := Diff(lower, upper)
	if err != nil {
		t.Fatal(err)
	}
	want := []Change{
		{"/etc/anew/a", Removed, "file", ""},
		{"/etc/both", Changed, "file", "content and metadata"},
		{"/etc/content", Changed, "file", "content"},
		{"/etc/gone", Removed, "file", ""},
		{"/etc/mode", Changed, "file", "metadata"},
		{"/etc/new", Added, "directory", ""},
		{"/etc/new/x", Added, "file", ""},
		{"/etc/tree", Removed, "directory", ""},
		{"/etc/type", Changed, "symlink", "type"},
	}
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %v, want %v", got[i], want[i])
		}
	}
}

// resetScene is a running machine's /etc: mounted as root, else a directory
// that shows what the mount would and an upper directory that says the same.
func resetScene(t *testing.T, r *rand.Rand, base, mine files) ResetOptions {
	t.Helper()
	dir := t.TempDir()
	o := ResetOptions{
		Lower:  filepath.Join(dir, "lower"),
		Upper:  filepath.Join(dir, "upper"),
		Merged: filepath.Join(dir, "merged"),
	}
	base.write(t, o.Lower)
	upperOf(r, base, mine).write(t, o.Upper)
	if os.Geteuid() == 0 {
		mountOverlay(t, o.Lower, o.Upper, o.Merged)
	} else {
		mine.write(t, o.Merged)
	}
	return o
}

func TestResetEverything(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for i := range 60 {
		base, mine := randomTree(r), randomTree(r)
		o := resetScene(t, r, base, mine)
		if _, err := Reset(o, "/etc"); err != nil {
			t.Fatalf("%d: base %q, mine %q: %v", i, base, mine, err)
		}
		if got := list(t, o.Merged); !maps.Equal(got, base) {
			t.Fatalf("%d: of %q it made %q, want %q", i, mine, got, base)
		}
		if os.Geteuid() != 0 {
			continue // the upper directory is not behind Merged then
		}
		if left, err := Diff(o.Lower, o.Upper); err != nil || len(left) != 0 {
			t.Fatalf("%d: still listed after the reset: %v, %v", i, left, err)
		}
	}
}

func TestResetOnePath(t *testing.T) {
	base := files{"a": "1", "b": "1", "d/": "", "d/x": "1", "d/y": "1"}
	mine := files{"a": "2", "b": "2", "d/": "", "d/x": "2", "d/z": "2"}
	o := resetScene(t, rand.New(rand.NewPCG(9, 10)), base, mine)
	for _, c := range []struct {
		path    string
		changes int
		want    files
	}{
		{"/etc/a", 1, files{"a": "1", "b": "2", "d/": "", "d/x": "2", "d/z": "2"}},
		{"/etc/d/", 3, files{"a": "1", "b": "2", "d/": "", "d/x": "1", "d/y": "1"}},
		{"/etc/nothing", 0, files{"a": "1", "b": "2", "d/": "", "d/x": "1", "d/y": "1"}},
	} {
		changes, err := Reset(o, c.path)
		if err != nil || len(changes) != c.changes {
			t.Errorf("%s: %v, %v, want %d changes", c.path, changes, err, c.changes)
		}
		if got := list(t, o.Merged); !maps.Equal(got, c.want) {
			t.Errorf("after %s: %q, want %q", c.path, got, c.want)
		}
	}
	for _, path := range []string{"/etc/../usr/etc/a", "a", "/etcetera", "/"} {
		if _, err := Reset(o, path); err == nil {
			t.Errorf("reset %q", path)
		}
	}
}
