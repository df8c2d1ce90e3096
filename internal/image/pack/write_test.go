package pack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// TestSameBytesWhateverTheConcurrency: the pack is a function of the tree.
func TestSameBytesWhateverTheConcurrency(t *testing.T) {
	tr, c := randomTree(3, 700, 9<<20)
	one, first := mustWrite(t, tr, c, Options{Concurrency: 1})
	for _, n := range []int{1, 2, 7, 50} {
		b, res := mustWrite(t, tr, c, Options{Concurrency: n})
		if !bytes.Equal(b, one) || res.DiffID != first.DiffID || !bytes.Equal(res.Index.Encode(), first.Index.Encode()) {
			t.Errorf("with concurrency %d the bytes are others than with 1", n)
		}
	}
}

// TestFramesAreShared checks the cuts: small neighbours share, large entries do
// not, and what is larger than a frame goes on in the next.
func TestFramesAreShared(t *testing.T) {
	c := contents{}
	root := dir("")
	for _, f := range []struct {
		name string
		size int
	}{{"a", 1000}, {"b", 1000}, {"c", sharedFrame}, {"d", 1000}, {"e", MaxFrame + 1}, {"f", 100}} {
		root.Add(c.file(f.name, bytes.Repeat([]byte(f.name), f.size)))
	}
	_, res := mustWrite(t, &tree.Tree{Root: root}, c, Options{})
	want := []int{0, 0, 1, 2, 3, 5}
	for i, e := range res.Index.Objects {
		if e.Frame != want[i] {
			t.Errorf("object %d is in frame %d, want %d", i, e.Frame, want[i])
		}
	}
	if n := len(res.Index.Frames); n != 6 {
		t.Errorf("there are %d frames, want 6", n)
	}
}

func TestWriteRefuses(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 6<<20)
	for name, c := range map[string]struct {
		make func(c contents, root *tree.Node)
		want string
	}{
		"a whiteout":       {func(c contents, r *tree.Node) { r.Add(c.file(".wh.a", nil)) }, `cannot pack "/.wh.a"`},
		"a name of a path": {func(c contents, r *tree.Node) { r.Add(c.file("a/b", nil)) }, `"a/b" is no name`},
		"a parent":         {func(c contents, r *tree.Node) { r.Add(dir("..")) }, `".." is no name`},
		"no content":       {func(c contents, r *tree.Node) { r.Add(c.file("a", big)).Digest[0]++ }, `packing "/a": no content`},
		"no digest":        {func(c contents, r *tree.Node) { r.Add(c.file("a", big)).Digest = verity.Digest{} }, "neither inline nor an object"},
		"less content":     {func(c contents, r *tree.Node) { r.Add(c.file("a", big)).Size++ }, `packing "/a": its content ends 1 bytes early`},
		"more content":     {func(c contents, r *tree.Node) { r.Add(c.file("a", big)).Size-- }, "longer than the 6291455 bytes"},
		"more in a small":  {func(c contents, r *tree.Node) { r.Add(c.file("a", big[:100])).Size-- }, "longer than the 99 bytes"},
		"an odd type":      {func(c contents, r *tree.Node) { r.Add(&tree.Node{Name: "a", Mode: 0o644}) }, "no known type"},
		"an odd attribute": {func(c contents, r *tree.Node) {
			r.Add(c.file("a", nil)).Xattrs = []tree.Xattr{{Key: "user.a=b", Value: []byte("c")}}
		}, `cannot pack "/a"`},
		"a link to nothing": {func(c contents, r *tree.Node) { r.Add(&tree.Node{Name: "a", HardLink: c.file("b", nil)}) }, "hard link to no file"},
	} {
		t.Run(name, func(t *testing.T) {
			root, content := dir(""), contents{}
			c.make(content, root)
			_, err := Write(context.Background(), io.Discard, &tree.Tree{Root: root}, content.open, Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want one with %q", err, c.want)
			}
		})
	}
}

// full is a disk that has no room after some bytes.
type full struct{ room int }

var errFull = errors.New("no space left")

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// TestWriteEnds: an error of the writer, and a cancelled context, end Write
// wherever they come.
func TestWriteEnds(t *testing.T) {
	tr, c := randomTree(4, 400, 9<<20)
	blob, _ := mustWrite(t, tr, c, Options{Level: 1})
	for room := 0; room < len(blob); room += len(blob)/10 + 1 {
		if _, err := Write(context.Background(), &full{room}, tr, c.open, Options{Level: 1}); !errors.Is(err, errFull) {
			t.Errorf("with room for %d bytes the error is %v", room, err)
		}
	}
	for stop := range 10 {
		ctx, cancel := context.WithCancel(context.Background())
		left := stop * len(c) / 12
		_, err := Write(ctx, io.Discard, tr, func(n *tree.Node) (io.ReadCloser, error) {
			if left--; left < 0 {
				cancel()
			}
			return c.open(n)
		}, Options{Level: 1})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled in the middle, the error is %v", err)
		}
	}
}

// counter is a progress.Reporter that counts.
type counter struct {
	progress.Reporter
	total int64
	done  atomic.Int64
}

func (c *counter) Stage(_ string, total int64, _ progress.Unit) { c.total = total }
func (c *counter) Add(n int64)                                  { c.done.Add(n) }

func TestProgress(t *testing.T) {
	tr, c := randomTree(5, 400, 9<<20)
	p := &counter{}
	_, res := mustWrite(t, tr, c, Options{Level: 1, Progress: p})
	if done := p.done.Load(); done != res.TarSize || p.total > done || p.total < done*9/10 {
		t.Errorf("%d bytes of about %d are reported, the tar has %d", done, p.total, res.TarSize)
	}
}

// endless yields bytes that do not compress, size of them, and notes how much
// memory the process has in use meanwhile.
type endless struct {
	left  int
	state uint64
	peak  *uint64
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), e.left)
	e.left -= n
	for i := range p[:n] {
		if i%8 == 0 {
			e.state = e.state*6364136223846793005 + 1442695040888963407
		}
		p[i] = byte(e.state >> 40)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	*e.peak = max(*e.peak, m.Sys-m.HeapReleased)
	return n, nil
}

func (e *endless) Close() error { return nil }

// TestMemory packs half a gigabyte in files of very different sizes, with as many
// compressors as there may be.
func TestMemory(t *testing.T) {
	root := dir("")
	for i, size := range []uint64{200 << 20, 70 << 20, 4 << 20, 1 << 20, 100 << 10, 200 << 20} {
		root.Add(&tree.Node{Name: string(rune('a' + i)), Mode: tree.TypeRegular | 0o644, Nlink: 1, Size: size, Digest: verity.Digest{byte(i + 1)}})
	}
	debug.FreeOSMemory() // of the tests before this one
	var peak uint64
	open := func(n *tree.Node) (io.ReadCloser, error) { return &endless{left: int(n.Size), peak: &peak}, nil }
	if _, err := Write(context.Background(), io.Discard, &tree.Tree{Root: root}, open, Options{Concurrency: maxConcurrency}); err != nil {
		t.Fatal(err)
	}
	if peak > 256<<20 {
		t.Errorf("%d MiB of memory were in use, want at most 256", peak>>20)
	}
}
