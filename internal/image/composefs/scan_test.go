package composefs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

func TestScanDir(t *testing.T) {
	source := makeSource(t)
	kept := scanTree(t, source)
	flat, err := ScanDir(context.Background(), source+"/", ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(source, "a/block"))
	if err != nil {
		t.Fatal(err)
	}
	digest := verity.SumBytes(content)

	block, link := kept.Lookup("a/block"), kept.Lookup("zz-link")
	if block.Digest != digest || block.Payload != ObjectPath(digest) || block.Nlink != 2 || link.HardLink != block {
		t.Errorf("a file with two names is %+v and %+v", block, link)
	}
	if one := kept.Lookup("a/one"); string(one.Inline) != "0" || kept.Lookup("one").HardLink != one {
		t.Errorf("a small file with two names is %+v", one)
	}
	if n := flat.Lookup("zz-link"); n.HardLink != nil || n.Nlink != 1 || n.Digest != digest {
		t.Errorf("as mkcomposefs sees it the second name is %+v", n)
	}
	for name, check := range map[string]func(n *tree.Node) bool{
		"empty-file": func(n *tree.Node) bool { return n.Size == 0 && n.Digest.IsZero() && n.Inline == nil },
		"inline":     func(n *tree.Node) bool { return len(n.Inline) == MaxInline && n.Digest.IsZero() },
		"object":     func(n *tree.Node) bool { return n.Inline == nil && !n.Digest.IsZero() && n.Mode&0o4000 != 0 },
		"short":      func(n *tree.Node) bool { return n.Target == "a/b" },
		"a":          func(n *tree.Node) bool { return len(n.Xattrs) == 1 && n.Xattrs[0].Key == "user.dir" },
	} {
		if n := kept.Lookup(name); !check(n) {
			t.Errorf("%s is %+v", name, n)
		}
	}
	for _, tr := range []*tree.Tree{kept, flat} {
		checkRoundTrips(t, tr, Options{})
	}
}

func TestScanDirErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, file + "-not"} {
		if _, err := ScanDir(context.Background(), path, ScanOptions{}); err == nil {
			t.Errorf("ScanDir takes %q", path)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := ScanDir(ctx, t.TempDir(), ScanOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("ScanDir, interrupted, says %v", err)
	}
}
