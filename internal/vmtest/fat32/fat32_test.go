package fat32

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sparse is an image in memory, without its zeros.
type sparse struct {
	size   int64
	blocks map[int64][]byte
}

func (s *sparse) ReadAt(p []byte, at int64) (int, error) {
	for n := 0; n < len(p); {
		b, offset := s.blocks[(at+int64(n))/4096], int((at+int64(n))%4096)
		part := min(4096-offset, len(p)-n)
		clear(p[n : n+part])
		if b != nil {
			copy(p[n:n+part], b[offset:])
		}
		n += part
	}
	if at+int64(len(p)) > s.size {
		return 0, errors.New("beyond the end")
	}
	return len(p), nil
}

func (s *sparse) set(at int64, v byte) {
	b := bytes.Clone(s.blocks[at/4096])
	if b == nil {
		b = make([]byte, 4096)
	}
	b[at%4096] = v
	s.blocks[at/4096] = b
}

func (s *sparse) clone() *sparse {
	c := &sparse{s.size, make(map[int64][]byte)}
	for n, b := range s.blocks {
		c.blocks[n] = b
	}
	return c
}

// makeFS has mtools write files to what mkfs.vfat made.
func makeFS(t testing.TB, files map[string][]byte, commands ...[]string) *sparse {
	t.Helper()
	dir := t.TempDir()
	image := filepath.Join(dir, "fat")
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
	run("mkfs.vfat", "-F", "32", "-s", "1", "-C", image, "34000")
	made := make(map[string]bool)
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for i, c := range name {
			if c == '/' && !made[name[:i]] {
				run("mmd", "-i", image, "::/"+name[:i])
				made[name[:i]] = true
			}
		}
		content := filepath.Join(dir, "content")
		if err := os.WriteFile(content, files[name], 0o600); err != nil {
			t.Fatal(err)
		}
		run("mcopy", "-i", image, content, "::/"+name)
	}
	for _, c := range commands {
		run(append([]string{c[0], "-i", image}, c[1:]...)...)
	}
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	s := &sparse{int64(len(b)), make(map[int64][]byte)}
	for at := 0; at < len(b); at += 4096 {
		if part := b[at:min(at+4096, len(b))]; !bytes.Equal(part, make([]byte, len(part))) {
			s.blocks[int64(at)/4096] = bytes.Clone(append(part, make([]byte, 4096-len(part))...))
		}
	}
	return s
}

func content(n int, fill byte) []byte { return bytes.Repeat([]byte{fill}, n) }

func TestReadsWhatMtoolsWrote(t *testing.T) {
	want := map[string][]byte{
		"EFI/BOOT/BOOTX64.EFI":                           content(1000, 'b'),
		"EFI/Linux/ashlar_1.0.0_abcdef012345+3.efi":      content(70000, 'u'),
		"EFI/Linux/ashlar_2.0.0_äöü€_of_two_sectors.efi": content(512, 'v'),
		"empty": nil,
	}
	for i := range 60 {
		want[fmt.Sprintf("dir/file number %d", i)] = content(i*100, byte(i))
	}
	want["gone.txt"] = content(5000, 'g')
	s := makeFS(t, want, []string{"mdel", "::/gone.txt"}, []string{"mdel", "::/dir/file number 7"})
	delete(want, "gone.txt")
	delete(want, "dir/file number 7")
	f, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range f.Files() {
		if file.Dir {
			continue
		}
		got, err := file.ReadAll()
		if w, ok := want[file.Path]; err != nil || !ok || !bytes.Equal(got, w) {
			t.Errorf("%q has %d bytes, want %d (%t): %v", file.Path, len(got), len(w), ok, err)
		}
		delete(want, file.Path)
	}
	for name := range want {
		t.Errorf("%q is missing", name)
	}
}

// TestDamage: chains that are not what they should be are errors of their files,
// and a name whose slots do not fit together is the 8.3 one.
func TestDamage(t *testing.T) {
	s := makeFS(t, map[string][]byte{"one": content(3*512, '1'), "two": content(3*512, '2'), "a long name.efi": content(10, 'l')})
	f, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, sector)
	if _, err := s.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	entry := func(cluster uint32) int64 { return int64(binary.LittleEndian.Uint16(b[14:]))*sector + int64(cluster)*4 }
	one, two := f.Lookup("one").chain, f.Lookup("two").chain
	damaged := func(why string, change func(*sparse), wrong ...string) {
		t.Helper()
		c := s.clone()
		change(c)
		f, err := Open(c)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"one", "two"} {
			file := f.Lookup(name)
			if file == nil {
				t.Errorf("%s: %q is gone", why, name)
				continue
			}
			if _, err := file.ReadAll(); slices.Contains(wrong, name) != (err != nil && strings.Contains(err.Error(), why)) {
				t.Errorf("%s: %q gives %v", why, name, err)
			}
		}
	}
	damaged("ends after 1", func(c *sparse) {
		for i := range int64(4) {
			c.set(entry(one[0])+i, 0xff)
		}
	}, "one")
	damaged("is one of", func(c *sparse) { c.set(entry(one[0]), byte(two[1])) }, "one", "two")
	damaged("goes to cluster 0", func(c *sparse) { c.set(entry(two[1]), 0) }, "two")

	// Two names for the same clusters, as a rename may leave them, and each is whole.
	root := f.data // the root directory has the first cluster
	c := s.clone()
	for at := root; at < root+512; at += slotSize {
		slot := make([]byte, slotSize)
		if _, err := c.ReadAt(slot, at); err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(slot, []byte("TWO ")) {
			c.set(at+26, byte(one[0]))
		}
	}
	if f, err = Open(c); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two"} {
		if b, err := f.Lookup(name).Shared(); err != nil || !bytes.Equal(b, content(3*512, '1')) {
			t.Errorf("%q, with the clusters of the other name: %.3q, %v", name, b, err)
		}
	}

	c = s.clone()
	for at := root; at < root+512; at += slotSize {
		slot := make([]byte, slotSize)
		if _, err := c.ReadAt(slot, at); err != nil {
			t.Fatal(err)
		}
		if slot[11] == attrLong && slot[0]&lastLong != 0 && slot[0] > lastLong+1 {
			c.set(at, deleted) // the last part of the long name
		}
	}
	if f, err = Open(c); err != nil {
		t.Fatal(err)
	}
	if f.Lookup("a long name.efi") != nil {
		t.Error("half a long name is taken for all of it")
	}
	if !slices.ContainsFunc(f.Files(), func(f *File) bool { return path.Ext(f.Path) == ".EFI" }) {
		t.Errorf("without its long name the file has no other")
	}
}

// FuzzRead changes bytes of a real file system. Whatever is on a disk, reading it ends.
func FuzzRead(f *testing.F) {
	good := makeFS(f, map[string][]byte{"EFI/Linux/a long name+3.efi": content(3000, 'x'), "EFI/Linux/short.efi": content(600, 'y')})
	used := make([]int64, 0, len(good.blocks))
	for n := range good.blocks {
		used = append(used, n)
	}
	slices.Sort(used)
	f.Add([]byte{})
	f.Add([]byte{0, 0, 13, 0, 0, 1, 0, 255, 2, 0, 1, 1})
	f.Fuzz(func(t *testing.T, patches []byte) {
		s := good.clone()
		for ; len(patches) >= 4; patches = patches[4:] {
			block := used[int(patches[0])%len(used)]
			s.set(block*4096+int64(binary.LittleEndian.Uint16(patches[1:])%4096), patches[3])
		}
		disk, err := Open(s)
		if err != nil {
			return
		}
		for _, file := range disk.Files() {
			if file.Size < 1<<20 {
				file.ReadAll()
			}
		}
	})
}
