package medium

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// testContent is what a release of some objects would give, with the permissions
// and times that whoever built it happened to have.
func testContent(t testing.TB, mode fs.FileMode) Content {
	t.Helper()
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(1, 2))
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	random := func(size int) []byte {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	object := func(d verity.Digest) string { return filepath.Join(dir, "objects", d.String()[:2], d.String()[2:]) }
	c := Content{
		Name: "test", Version: "1.2", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Image: verity.SumBytes([]byte("image")), EROFS: write("image", random(50_000)), UKI: write("boot", random(3_000_000)),
		Loader: random(90_000), Object: object,
		BootFile: func(_ context.Context, path string, root medium.Digest) error {
			return os.WriteFile(path, append([]byte(root.String()), bytes.Repeat([]byte("boot file "), 200_000)...), 0o644)
		},
	}
	for i := range 200 {
		b := random(65 + r.IntN(20_000))
		if i%3 == 0 { // most of an image compresses well
			b = bytes.Repeat(b[:65], 1+r.IntN(1000))
		}
		if i == 5 {
			b = append(b, make([]byte, 3<<20)...)
		}
		d := verity.SumBytes(b)
		write(filepath.Join("objects", d.String()[:2], d.String()[2:]), b)
		c.Objects = append(c.Objects, tree.Object{Digest: d, Size: uint64(len(b))})
	}
	return c
}

// made is one medium: what Build returned, the blob, and the image.
type made struct {
	*Result
	content Content
	blocks  string // path
	image   string // path
}

func buildMedium(t testing.TB, c Content, dir string) made {
	t.Helper()
	m := made{content: c, blocks: filepath.Join(dir, "blocks"), image: filepath.Join(dir, "image")}
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	if m.Result, err = Build(context.Background(), c, Options{Blocks: m.blocks, Work: work}); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(work); err != nil || len(left) > 0 {
		t.Errorf("left in the work directory: %v, %v", left, err)
	}
	blocks, err := os.Open(m.blocks)
	if err != nil {
		t.Fatal(err)
	}
	defer blocks.Close()
	image, err := os.Create(m.image)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	if err := image.Truncate(m.Map.Size); err != nil {
		t.Fatal(err)
	}
	if err := m.Map.WriteImage(context.Background(), image, blocks); err != nil {
		t.Fatal(err)
	}
	return m
}

// theMedium is made once for all tests that only look at it.
func theMedium(t *testing.T) made {
	t.Helper()
	shared.Do(func() { shared.made = buildMedium(t, testContent(sharedTB{t}, 0o600), sharedTB{t}.TempDir()) })
	if shared.made.Result == nil {
		t.Fatal("no medium was made")
	}
	return shared.made
}

var shared struct {
	sync.Once
	made made
}

// sharedTB makes directories that last as long as the test program.
type sharedTB struct{ testing.TB }

func (s sharedTB) TempDir() string {
	dir, err := os.MkdirTemp(sharedDir, "")
	if err != nil {
		s.Fatal(err)
	}
	return dir
}

var sharedDir string

func TestMain(m *testing.M) {
	var err error
	if sharedDir, err = os.MkdirTemp("", "ashlar-medium-*"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(sharedDir)
	os.Exit(code)
}

// tool runs an outside oracle and returns all that it says; it must succeed.
func tool(t *testing.T, args ...string) string {
	t.Helper()
	out, err := command(args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func command(args ...string) (string, error) {
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	return string(out), err
}
