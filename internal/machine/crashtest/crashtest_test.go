package crashtest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// shell records what a shell does in a directory that has the file f, "old".
func shell(t *testing.T, script string) *Log {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("old"), 0o644))
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	log, code := Record(t, cmd, dir)
	if code != 0 {
		t.Fatalf("%q ended with %d", script, code)
	}
	return log
}

// outcomes are the contents that f may have after a cut, and "none".
func outcomes(log *Log) []string {
	found := make(map[string]bool)
	log.Trees(1, func(_ int, tree *Tree) {
		b, err := tree.ReadFile("f")
		if err != nil {
			b = []byte("none")
		}
		found[string(b)] = true
	})
	return slices.Sorted(maps.Keys(found))
}

// TestKnownMistakes: the model finds what is known to go wrong, and finds nothing
// where a file is replaced as it should be.
func TestKnownMistakes(t *testing.T) {
	const zero = "\x00\x00\x00"
	for _, c := range []struct {
		what, script string
		want         []string
	}{
		{"as it should be", "printf new >t; sync t; mv t f; sync .", []string{"new", "old"}},
		{"by syncing everything", "printf new >t; sync -f .; mv t f", []string{"new", "old"}},
		{"not flushed before the rename", "printf new >t; mv t f; sync .", []string{"", zero, "new", "old"}},
		{"written over in place", "printf new >f; sync f", []string{"", zero, "new", "old"}},
		{"removed before the rename", "printf new >t; sync t; rm f; mv t f", []string{"new", "none", "old"}},
	} {
		log := shell(t, c.script)
		if got := outcomes(log); !slices.Equal(got, c.want) {
			t.Errorf("%s: f may be %q, want %q (%v)", c.what, got, c.want, log.Ops)
		}
	}
}

// work is what a process does that TestRecording records.
func work() error {
	var errs []error
	do := func(err error) { errs = append(errs, err) }
	do(os.MkdirAll("a/b", 0o755))
	for i := range 3 {
		f, err := os.OpenFile("a/b/log", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		do(err)
		_, err = fmt.Fprintf(f, "line %d\n", i)
		do(errors.Join(err, f.Close()))
	}
	do(os.Rename("a/b", "c"))
	do(os.WriteFile("c/copy", []byte("old"), 0o644))
	f, err := os.OpenFile("c/copy", os.O_RDWR, 0)
	do(err)
	do(errors.Join(f.Truncate(2), f.Close(), os.Remove("f"), os.Remove("a")))
	return errors.Join(errs...)
}

func TestMain(m *testing.M) {
	if os.Args[0] == "work" {
		if err := work(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestRecording: what was recorded, played from the start, gives what is there.
func TestRecording(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("old"), 0o644))
	self, err := os.Executable()
	must(t, err)
	cmd := &exec.Cmd{Path: self, Args: []string{"work"}, Dir: dir, Stderr: os.Stderr}
	log, code := Record(t, cmd, dir)
	if code != 0 {
		t.Fatalf("it ended with %d", code)
	}
	tree := log.Before.clone()
	for _, op := range log.Ops {
		tree.apply(op)
	}
	var got []string
	must(t, tree.Walk(func(name string, n *Node) error {
		got = append(got, fmt.Sprintf("%s %t %q", name, n.Dir, n.Data))
		return nil
	}))
	want := []string{`c true ""`, `c/copy false "ol"`, `c/log false "line 0\nline 1\nline 2\n"`}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

const megabytes = 270

// newESP is an empty file system as mkfs.vfat makes it, with EFI/Linux.
func newESP(t *testing.T) (Image, *VFAT, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "esp")
	run(t, "mkfs.vfat", "-F", "32", "-s", "8", "-C", name, fmt.Sprint(megabytes<<10))
	vfat := NewVFAT(t, LoadImage(t, name))
	tree := &Tree{nodes: []Node{{}, {Dir: true}}}
	for _, dir := range []string{"efi", "efi/EFI", "efi/EFI/Linux"} {
		tree.apply(tree.create(dir, true))
	}
	vfat.Fill(tree, "efi")
	return vfat.Image(), vfat, name
}

func run(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return out
}

const linux = "EFI/Linux/"

// TestFATAgainstOthers: what the model of vfat writes is a FAT to fsck.vfat and
// mtools, and the reader reads what they read, also of what mtools wrote.
func TestFATAgainstOthers(t *testing.T) {
	_, vfat, name := newESP(t)
	noise := bytes.Repeat([]byte("0123456789abcdef"), 2000)
	names := []string{"ashlar_1.0.0_efc8d4f37be9.efi", "ashlar_2.0.0_5a4fd4d5fcdc.ashlar-partial", "ashlar_3.0.0_280402e625ef+3.efi"}
	for i, file := range names {
		vfat.Do(i+1, Op{Kind: Create, Path: linux + file})
		vfat.Do(i+1, Op{Kind: Write, Path: linux + file, Data: noise[:20000+5000*i]})
		vfat.Do(i+1, Op{Kind: Fsync, Path: linux + file})
	}
	vfat.Do(4, Op{Kind: Rename, Path: linux + names[1], To: linux + "ashlar_2.0.0_5a4fd4d5fcdc+2-1.efi"})
	vfat.Do(5, Op{Kind: Unlink, Path: linux + names[0]})
	vfat.Image().WriteTo(t, name, megabytes<<20)
	run(t, "fsck.vfat", "-n", name)

	other := filepath.Join(t.TempDir(), "other")
	must(t, os.WriteFile(other, noise, 0o600))
	for i := range 30 { // mtools lets the directory grow by a cluster
		run(t, "mcopy", "-i", name, other, fmt.Sprintf("::/EFI/Linux/written by mtools %d.efi", i))
	}
	files, err := LoadImage(t, name).List("EFI/Linux")
	must(t, err)
	var mine []string
	for _, f := range files {
		mine = append(mine, "::/EFI/Linux/"+f.Name)
		if theirs := run(t, "mtype", "-i", name, "::/EFI/Linux/"+f.Name); f.Err != nil || !bytes.Equal(theirs, f.Data) {
			t.Errorf("%q: %d bytes, mtools reads %d: %v", f.Name, len(f.Data), len(theirs), f.Err)
		}
	}
	theirs := strings.Split(strings.TrimSpace(string(run(t, "mdir", "-b", "-i", name, "::/EFI/Linux"))), "\n")
	slices.Sort(mine)
	slices.Sort(theirs)
	if len(mine) != 32 || !slices.Equal(mine, theirs) {
		t.Errorf("the reader lists %q, mtools %q", mine, theirs)
	}
}

// TestRenameOnFAT: between two flushes a rename may leave either name, both,
// neither, an empty file and the 8.3 alias; on an ordered drive below dirsync
// the file always has a name.
func TestRenameOnFAT(t *testing.T) {
	before, vfat, _ := newESP(t)
	content := []byte("content")
	for i := range 3 { // so that the new name lies in two sectors
		vfat.Do(1, Op{Kind: Create, Path: fmt.Sprintf("%sname number %d.efi", linux, i)})
	}
	const from, to = "ashlar_1.0.0_efc8d4f37be9+0.efi", "ashlar_1.0.0_efc8d4f37be9+3.efi"
	vfat.Do(1, Op{Kind: Create, Path: linux + from})
	vfat.Do(1, Op{Kind: Write, Path: linux + from, Data: content})
	vfat.Do(2, Op{Kind: Syncfs, Path: "EFI/Linux"})
	vfat.Do(3, Op{Kind: Fsync, Path: "EFI/Linux"})
	vfat.Do(4, Op{Kind: Rename, Path: linux + from, To: linux + to})
	vfat.Do(5, Op{Kind: Syncfs, Path: "EFI/Linux"})
	vfat.Do(6, Op{Kind: Fsync, Path: "EFI/Linux"})

	look := func(image Image) (found string, whole bool) {
		files, err := image.List("EFI/Linux")
		must(t, err)
		for _, f := range files {
			if !strings.HasPrefix(f.Name, "name number") {
				found += fmt.Sprintf("%s %d;", f.Name, len(f.Data))
				whole = whole || bytes.Equal(f.Data, content)
			}
		}
		return found, whole
	}
	seen := make(map[string]bool)
	vfat.Sectors(before, 6, 1, func(cut int, image Image) {
		if cut < 3 {
			return
		}
		found, whole := look(image)
		seen[found] = true
		if cut == 6 && (!whole || found != to+" 7;") {
			t.Errorf("after the last flush: %s", found)
		}
	})
	for _, want := range []string{
		from + " 7;", to + " 7;", from + " 7;" + to + " 7;", from + " 7;" + to + " 0;", to + " 0;", "", from + " 7;ASHLAR~2.EFI 7;",
	} {
		if !seen[want] {
			t.Errorf("it never looks like %q (%q)", want, slices.Sorted(maps.Keys(seen)))
		}
	}
	vfat.InOrder(before, func(cut int, image Image) {
		if found, whole := look(image); cut > 3 && !whole {
			t.Errorf("in order: %q", found)
		}
	})
}
