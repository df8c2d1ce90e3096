package ext4

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// features are those of Ashlar's disks.
const features = "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum,verity"

// tool runs a program that must succeed.
func tool(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

// makeFS makes a file system of what is in dir.
func makeFS(t testing.TB, dir, size string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fs")
	tool(t, "mke2fs", "-q", "-t", "ext4", "-O", features, "-I", "256", "-b", "4096", "-d", dir, name, size)
	return name
}

func open(t testing.TB, name string) *FS {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func put(t testing.TB, name string, b []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, b, 0o644)); err != nil {
		t.Fatal(err)
	}
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// TestReadsWhatMke2fsWrote: a directory large enough for a hash tree, contents of
// many lengths, a file with holes.
func TestReadsWhatMke2fsWrote(t *testing.T) {
	dir := t.TempDir()
	want := make(map[string][]byte)
	for i := range 700 {
		name := fmt.Sprintf("many/a file with a long name, number %d", i)
		want[name] = noise(uint64(i), i%5*1000+i)
		put(t, filepath.Join(dir, name), want[name])
	}
	want["deep/er/large"] = noise(1000, 1<<20+17)
	want["empty"] = nil
	want["holes"] = append(make([]byte, 1<<20), "end"...)
	for _, name := range []string{"deep/er/large", "empty", "holes"} {
		put(t, filepath.Join(dir, name), want[name])
	}
	f := open(t, makeFS(t, dir, "16M"))
	for name, content := range want {
		file, err := f.Lookup("/" + name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := file.ReadAll(4 << 20)
		if err != nil || !bytes.Equal(got, content) || !file.Regular() || file.Sealed() {
			t.Errorf("%q has %d bytes, want %d: %v", name, len(got), len(content), err)
		}
	}
	if list, err := f.Entries("/many"); err != nil || len(list) != 700 {
		t.Errorf("a directory of 700 lists %d, %v", len(list), err)
	}
	for _, missing := range []string{"/nothing", "/empty/x", "/many/x"} {
		if _, err := f.Lookup(missing); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", missing, err)
		}
	}
	large, err := f.Lookup("deep/er/large")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := large.ReadAll(1 << 20); !errors.Is(err, ErrTooLarge) {
		t.Errorf("reading too much: %v", err)
	}
}

// seal lays a content out as fs-verity does, as a plain file, and then tells the
// file system that it is one that is sealed.
func seal(t *testing.T, content []byte) (image string) {
	t.Helper()
	tree, root := hashTree(content)
	descriptor := make([]byte, descriptorSize)
	copy(descriptor, []byte{1, 1, 12})
	binary.LittleEndian.PutUint64(descriptor[8:], uint64(len(content)))
	copy(descriptor[16:], root[:])
	pad := func(b []byte, to int) []byte { return append(b, make([]byte, (to-len(b)%to)%to)...) }
	b := append(pad(bytes.Clone(content), sealAlign), tree...)
	b = pad(append(b, descriptor...), 4096)
	binary.LittleEndian.PutUint32(b[len(b)-4:], descriptorSize)
	dir := t.TempDir()
	put(t, filepath.Join(dir, "sealed"), b)
	image = makeFS(t, dir, "16M")
	tool(t, "debugfs", "-w", "-R", fmt.Sprintf("set_inode_field sealed size %d", len(content)), image)
	tool(t, "debugfs", "-w", "-R", fmt.Sprintf("set_inode_field sealed flags %#x", flagVerity|flagExtents), image)
	return image
}

// TestMeasure: against fsverity(1), for contents with no, one and two levels.
func TestMeasure(t *testing.T) {
	for _, size := range []int{1, 4096, 4097, 128 * 4096, 128*4096 + 1} {
		content := noise(uint64(size), size)
		name := filepath.Join(t.TempDir(), "content")
		put(t, name, content)
		want := tool(t, "fsverity", "digest", "--compact", name)
		image := seal(t, content)
		measure := func() (string, error) {
			file, err := open(t, image).Lookup("/sealed")
			if err != nil {
				t.Fatal(err)
			}
			if !file.Sealed() {
				t.Fatal("debugfs did not set the flag")
			}
			d, err := file.Measure()
			return hex.EncodeToString(d[:]), err
		}
		if got, err := measure(); err != nil || got != want {
			t.Errorf("%d bytes: measured %s, %v; fsverity says %s", size, got, err, want)
		}
		// A bit of any of it that is wrong is noticed.
		file, err := open(t, image).Lookup("/sealed")
		if err != nil {
			t.Fatal(err)
		}
		extents, err := file.Extents()
		if err != nil {
			t.Fatal(err)
		}
		place := func(at int64) int64 {
			for _, e := range extents {
				if b := at / 4096; b >= e.Logical && b < e.Logical+e.Length {
					return (e.Physical+b-e.Logical)*4096 + at%4096
				}
			}
			t.Fatalf("nothing is at %d", at)
			return 0
		}
		tree, _ := hashTree(content)
		behind := (int64(size) + sealAlign - 1) / sealAlign * sealAlign
		for what, at := range map[string]int64{"content": int64(size) - 1, "hash tree": behind, "descriptor": behind + int64(len(tree)) + 20} {
			if what == "hash tree" && len(tree) == 0 {
				continue
			}
			flip(t, image, place(at))
			if got, err := measure(); err == nil {
				t.Errorf("%d bytes: with another %s it measures %s", size, what, got)
			}
			flip(t, image, place(at))
		}
	}
	plain := t.TempDir()
	put(t, filepath.Join(plain, "plain"), []byte("x"))
	file, err := open(t, makeFS(t, plain, "16M")).Lookup("plain")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Measure(); !errors.Is(err, ErrNotSealed) {
		t.Errorf("a plain file: %v", err)
	}
}

func flip(t *testing.T, name string, at int64) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 1
	put(t, name, b)
}

func TestHashTreeOfNothing(t *testing.T) {
	if tree, root := hashTree(nil); len(tree) != 0 || root != [sha256.Size]byte{} {
		t.Errorf("%x, %x", tree, root)
	}
}

// TestRefuses: what this reader must not read.
func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "file"), []byte("content"))
	image := makeFS(t, dir, "16M")
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	torn := bytes.Clone(b)
	torn[superOffset+0x30]++ // the time of the last write
	if _, err := Open(bytes.NewReader(torn), int64(len(b))); !errors.Is(err, ErrSuperblock) {
		t.Errorf("with half a superblock: %v", err)
	}
	if _, err := Open(bytes.NewReader(b), 1<<20); err == nil {
		t.Error("it is larger than its disk")
	}
	tool(t, "debugfs", "-w", "-R", "feature needs_recovery", image)
	if b, err = os.ReadFile(image); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), "journal") {
		t.Errorf("with a journal that is not empty: %v", err)
	}
}

// FuzzRead changes bytes of a real file system. Whatever is on a disk, reading it ends.
func FuzzRead(f *testing.F) {
	dir := f.TempDir()
	for i := range 40 {
		put(f, filepath.Join(dir, "dir", fmt.Sprint("file", i)), noise(1, i*300))
	}
	image := filepath.Join(f.TempDir(), "fs")
	tool(f, "mke2fs", "-q", "-t", "ext4", "-O", "none,filetype,extent,64bit", "-b", "1024", "-d", dir, image, "512")
	good, err := os.ReadFile(image)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add([]byte{0x18, 4, 0, 0, 2})
	f.Fuzz(func(t *testing.T, patches []byte) {
		b := bytes.Clone(good)
		for ; len(patches) >= 5; patches = patches[5:] {
			b[int(binary.LittleEndian.Uint32(patches))%len(b)] = patches[4]
		}
		disk, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		list, err := disk.Entries("/dir")
		if err != nil {
			return
		}
		for _, n := range list {
			if file, err := disk.Inode(n); err == nil {
				file.ReadAll(1 << 20)
				file.Measure()
			}
		}
	})
}
