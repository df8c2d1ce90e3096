package pack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// treeDir lets the benchmarks run on a real tree:
//
//	go test -bench . -run '^$' ./internal/image/pack -tree /path/to/rootfs
var treeDir = flag.String("tree", "", "directory that the benchmarks pack, instead of a made-up tree")

// benchTree returns a tree to pack and what opens its contents.
func benchTree(b *testing.B) (*tree.Tree, func(*tree.Node) (io.ReadCloser, error)) {
	if *treeDir == "" {
		t, c := randomTree(9, 5000, 16<<20)
		return t, c.open
	}
	dirs := map[string]*tree.Node{}
	err := filepath.WalkDir(*treeDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		n := &tree.Node{Name: d.Name(), Mode: st.Mode, UID: st.Uid, GID: st.Gid, Source: path}
		switch {
		case n.IsDir():
			dirs[path] = n
		case n.IsSymlink():
			n.Target, err = os.Readlink(path)
		case n.IsRegular():
			var content []byte
			content, err = os.ReadFile(path)
			if n.Size = uint64(len(content)); n.Size <= 64 {
				n.Inline = content
			} else {
				n.Digest = sha256.Sum256(content)
			}
		}
		if path == *treeDir {
			n.Name = ""
		} else if err == nil {
			dirs[filepath.Dir(path)].Children = append(dirs[filepath.Dir(path)].Children, n)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return &tree.Tree{Root: dirs[*treeDir]}, func(n *tree.Node) (io.ReadCloser, error) { return os.Open(n.Source) }
}

func BenchmarkWrite(b *testing.B) {
	t, open := benchTree(b)
	for b.Loop() {
		res, err := Write(context.Background(), io.Discard, t, open, Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(res.TarSize)
		b.ReportMetric(float64(res.Size)/1e6, "MB")
		b.ReportMetric(float64(len(res.Index.Frames)), "frames")
		b.ReportMetric(float64(len(res.Index.Encode())), "index-bytes")
	}
}

func BenchmarkExtract(b *testing.B) {
	t, open := benchTree(b)
	var blob bytes.Buffer
	res, err := Write(context.Background(), &blob, t, open, Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(res.TarSize)
	for b.Loop() {
		for _, rg := range res.Index.Plan(nil, PlanOptions{}) {
			if err := Extract(bytes.NewReader(blob.Bytes()[rg.Offset:rg.end()]), rg, drain); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkDecodeIndex(b *testing.B) {
	t, open := benchTree(b)
	res, err := Write(context.Background(), io.Discard, t, open, Options{})
	if err != nil {
		b.Fatal(err)
	}
	encoded, objects := res.Index.Encode(), t.Objects()
	b.SetBytes(int64(len(encoded)))
	for b.Loop() {
		if _, err := DecodeIndex(encoded, objects, res.Size); err != nil {
			b.Fatal(err)
		}
	}
}
