package etc

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A files value describes a directory for a test: path (no slash in front) to
// content. "dir/" is a directory, "-> x" a symlink, "!" a whiteout (upper
// directories only), "dir/!" an opaque directory, and "#0600 text" a file with
// that mode.
type files map[string]string

func (f files) write(t testing.TB, dir string) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.MkdirAll(dir, 0o755))
	for _, name := range slices.Sorted(maps.Keys(f)) {
		content := f[name]
		path := filepath.Join(dir, strings.TrimSuffix(name, "/"))
		check(os.MkdirAll(filepath.Dir(path), 0o755))
		mode := os.FileMode(0o644)
		if strings.HasPrefix(content, "#") {
			_, err := fmt.Sscanf(content[:5], "#%o", &mode)
			check(err)
			content = strings.TrimPrefix(content[5:], " ")
		}
		switch {
		case strings.HasSuffix(name, "/"):
			check(os.MkdirAll(path, 0o755))
			if f[name] != "" && f[name][0] == '#' {
				check(os.Chmod(path, mode))
			}
			if content == "!" {
				setOpaque(t, path)
			}
		case content == "!":
			check(unix.Mknod(path, unix.S_IFCHR, 0))
		case strings.HasPrefix(content, "-> "):
			check(os.Symlink(content[3:], path))
		default:
			check(os.WriteFile(path, []byte(content), 0o600))
			check(os.Chmod(path, mode))
		}
	}
}

// setOpaque marks an upper directory; trusted attributes are root's.
func setOpaque(t testing.TB, path string) {
	t.Helper()
	key := "trusted.overlay.opaque"
	if os.Geteuid() != 0 {
		key = "user.overlay.opaque"
	}
	if err := unix.Lsetxattr(path, key, []byte("y"), 0); err != nil {
		t.Fatal(err)
	}
}

// list is the inverse of write.
func list(t testing.TB, dir string) files {
	t.Helper()
	f := files{}
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		n, err := read(path)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, dir+"/")
		var mode string
		usual := uint32(0o644)
		if n.isDir() {
			usual = 0o755
		}
		if n.perm != usual {
			mode = fmt.Sprintf("#%04o", n.perm)
		}
		switch {
		case n.isWhiteout():
			f[name] = "!"
		case n.isDir() && n.opaque:
			f[name+"/"] = mode + "!"
		case n.isDir():
			f[name+"/"] = mode
		case n.typ == unix.S_IFLNK:
			f[name] = "-> " + n.target
		default:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if mode != "" {
				mode += " "
			}
			f[name] = mode + string(b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// view is what an overlay of upper on lower shows, worked out on descriptions
// alone: the tests' idea of overlayfs.
func view(lower, upper files) files {
	hidden := func(name string) bool { // by something of upper's above it
		for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
			if _, ok := upper[dir]; ok { // a file, link or whiteout
				return true
			}
			if strings.HasSuffix(upper[dir+"/"], "!") {
				return true
			}
		}
		return false
	}
	v := files{}
	for name, content := range lower {
		plain := strings.TrimSuffix(name, "/")
		_, asFile := upper[plain]
		_, asDir := upper[plain+"/"]
		if !asFile && !asDir && !hidden(name) {
			v[name] = content
		}
	}
	for name, content := range upper {
		if content == "!" && !strings.HasSuffix(name, "/") {
			continue
		}
		if strings.HasSuffix(name, "/") {
			content = strings.TrimSuffix(content, "!")
		}
		v[name] = content
	}
	return v
}

// scene is the three directories of a merge on disk.
type scene struct {
	MergeOptions
	base, mine, theirs files
}

func newScene(t testing.TB, base, mine, theirs files) *scene {
	t.Helper()
	dir := t.TempDir()
	s := &scene{MergeOptions{
		BaseDir:   filepath.Join(dir, "base"),
		MineUpper: filepath.Join(dir, "mine"),
		TheirsDir: filepath.Join(dir, "theirs"),
		OutUpper:  filepath.Join(dir, "out"),
	}, base, mine, theirs}
	base.write(t, s.BaseDir)
	mine.write(t, s.MineUpper)
	theirs.write(t, s.TheirsDir)
	return s
}

// apply merges without the wait for the disk, which hundreds of merges would feel.
func (s *scene) apply(t testing.TB) (out files) {
	t.Helper()
	root, _, err := plan(s.MergeOptions)
	if err != nil {
		t.Fatal(err)
	}
	if err := apply(s.OutUpper, root); err != nil {
		t.Fatal(err)
	}
	return list(t, s.OutUpper)
}

// merge merges, and checks what holds for every merge: the preview says the
// same and writes nothing, and the three inputs are untouched.
func (s *scene) merge(t testing.TB) (out files, results map[string]Result) {
	t.Helper()
	before := []files{list(t, s.BaseDir), list(t, s.MineUpper), list(t, s.TheirsDir)}
	preview, err := Preview(s.MergeOptions)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(s.OutUpper); !os.IsNotExist(err) {
		t.Fatalf("Preview made %q", s.OutUpper)
	}
	root, report, err := plan(s.MergeOptions)
	if err != nil {
		t.Fatal(err)
	}
	if err := apply(s.OutUpper, root); err != nil {
		t.Fatal(err)
	}
	if a, b := fmt.Sprint(*preview), fmt.Sprint(*report); a != b {
		t.Errorf("Preview says %s\nMerge says %s", a, b)
	}
	after := []files{list(t, s.BaseDir), list(t, s.MineUpper), list(t, s.TheirsDir)}
	for i := range before {
		if !maps.Equal(before[i], after[i]) {
			t.Errorf("input %d was changed:\n%v\n%v", i, before[i], after[i])
		}
	}
	results = make(map[string]Result)
	for _, it := range report.Items {
		results[strings.TrimPrefix(it.Path, "/etc/")] = it.Result
		if it.Result == Conflict && it.Detail == "" {
			t.Errorf("conflict about %q without a sentence", it.Path)
		}
	}
	return list(t, s.OutUpper), results
}
