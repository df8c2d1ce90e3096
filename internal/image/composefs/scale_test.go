package composefs

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// systemTree is like the tree of a system: n files over directories of 40, each
// an object, all with the same label.
func systemTree(n int) *tree.Tree {
	label := []tree.Xattr{{Key: keySELinux, Value: []byte("system_u:object_r:usr_t:s0\x00")}}
	inode := func(mode uint32, name string) *tree.Node {
		return &tree.Node{Name: name, Mode: mode, Nlink: 1, Mtime: tree.Time{Sec: 1e9}, Xattrs: label}
	}
	root := inode(tree.TypeDir|0o755, "")
	var dir *tree.Node
	for i := range n {
		if i%40 == 0 {
			dir = inode(tree.TypeDir|0o755, fmt.Sprintf("directory-%08d", i))
			root.Children = append(root.Children, dir)
		}
		file := inode(tree.TypeRegular|0o644, fmt.Sprintf("file-%08d", i))
		file.Size = uint64(i + 100)
		file.Digest[0], file.Digest[1], file.Digest[2], file.Digest[3] = byte(i), byte(i>>8), byte(i>>16), 1
		file.Payload = ObjectPath(file.Digest)
		dir.Children = append(dir.Children, file)
	}
	return &tree.Tree{Root: root}
}

// allocated is how many bytes f allocates.
func allocated(f func()) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return float64(after.TotalAlloc - before.TotalAlloc)
}

// TestLinear: twice the inodes take no more than about twice the memory, for
// every step, and twice the space. Maps and lists that double when they are full
// make up for the rest.
func TestLinear(t *testing.T) {
	const n = 50_000
	measureAll := func(n int) map[string]float64 {
		tr := systemTree(n)
		var image, text bytes.Buffer
		figures := map[string]float64{"write": allocated(func() {
			if err := Write(io.Discard, tr, Options{}); err != nil {
				t.Fatal(err)
			}
		})}
		if err := Write(&image, tr, Options{}); err != nil {
			t.Fatal(err)
		}
		if err := WriteDump(&text, tr); err != nil {
			t.Fatal(err)
		}
		figures["image size"] = float64(image.Len())
		figures["read"] = allocated(func() { read(t, image.Bytes()) })
		figures["parse"] = allocated(func() { parse(t, text.String()) })
		figures["print"] = allocated(func() {
			if err := WriteDump(io.Discard, tr); err != nil {
				t.Fatal(err)
			}
		})
		figures["objects"] = allocated(func() {
			if _, err := Objects(bytes.NewReader(image.Bytes()), int64(image.Len())); err != nil {
				t.Fatal(err)
			}
		})
		return figures
	}
	one, two := measureAll(n), measureAll(2*n)
	for step, a := range one {
		if ratio := two[step] / a; ratio > 2.3 {
			t.Errorf("%s: %.0f bytes for %d files, %.0f for twice as many, %.2f times", step, a, n, two[step], ratio)
		}
	}
	// Beside the tree writing needs little; a copy of the tree would be 300 bytes.
	if each := one["write"] / n; each > 120 {
		t.Errorf("writing allocates %.0f bytes for each file", each)
	}
}

// TestManyNames: names that come in the worst order, all in one directory, are
// not sorted again and again.
func TestManyNames(t *testing.T) {
	text := func(n int) string {
		var b strings.Builder
		b.WriteString("/ 0 40755 2 0 0 0 0.0 - - -\n")
		for i := n; i > 0; i-- {
			fmt.Fprintf(&b, "/%08d 0 100644 1 0 0 0 0.0 - - -\n", i)
		}
		return b.String()
	}
	one, two := text(50_000), text(100_000)
	if ratio := allocated(func() { parse(t, two) }) / allocated(func() { parse(t, one) }); ratio > 2.3 {
		t.Errorf("parsing twice the names in reverse order allocates %.2f times as much", ratio)
	}
	if got := len(parse(t, two).Root.Children); got != 100_000 {
		t.Errorf("%d names of 100000 are left", got)
	}
}

func BenchmarkWrite(b *testing.B) {
	tr := systemTree(100_000)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if err := Write(io.Discard, tr, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMillion is the largest tree that is promised.
func BenchmarkMillion(b *testing.B) {
	tr := systemTree(1_000_000)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, _, err := Digest(tr); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseDump(b *testing.B) {
	var text strings.Builder
	if err := WriteDump(&text, systemTree(100_000)); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		parse(b, text.String())
	}
}

func BenchmarkRead(b *testing.B) {
	image := write(b, systemTree(100_000), Options{})
	b.SetBytes(int64(len(image)))
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		read(b, image)
	}
}
