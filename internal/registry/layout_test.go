package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// listing names all files below dir with their content's digest.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		info, _ := d.Info()
		name, _ := filepath.Rel(dir, path)
		fmt.Fprintln(&b, name, info.Mode(), digest.FromBytes(content))
		if filepath.Base(filepath.Dir(path)) == "sha256" && digest.FromBytes(content).Encoded() != d.Name() {
			t.Errorf("blob %s has the content of %s", d.Name(), digest.FromBytes(content))
		}
		return err
	}))
	return b.String()
}

func TestWritingIsReproducible(t *testing.T) {
	a := newFixture(t, "1.0.0", 100_000).written(t, "", "stable")
	b := newFixture(t, "1.0.0", 100_000).written(t, "", "stable")
	if x, y := listing(t, a.dir), listing(t, b.dir); x != y {
		t.Errorf("two layouts of one release differ:\n%s\n%s", x, y)
	}
	a.checkRelease(t, a.layout.Repository(), "1.0.0")
	// Writing it again changes nothing.
	before := listing(t, a.dir)
	a.written(t, a.dir, "stable")
	if after := listing(t, a.dir); before != after {
		t.Errorf("the second writing changed\n%s\nto\n%s", before, after)
	}
}

// TestRefusedInput: what does not agree with the document leaves the layout without a tag or a partial file.
func TestRefusedInput(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, in *ReleaseInput){
		"EROFS": func(t *testing.T, in *ReleaseInput) { flipByte(t, in.EROFS) },
		"UKI":   func(t *testing.T, in *ReleaseInput) { flipByte(t, in.UKI) },
		"longer UKI": func(t *testing.T, in *ReleaseInput) {
			must(t, os.WriteFile(in.UKI, make([]byte, 1<<20), 0o600))
		},
		"shorter pack": func(t *testing.T, in *ReleaseInput) { must(t, os.Truncate(in.Pack, 10)) },
		"pack index":   func(t *testing.T, in *ReleaseInput) { in.PackIndex = []byte("other") },
		"lock":         func(t *testing.T, in *ReleaseInput) { in.Lock = nil },
		"diff id":      func(t *testing.T, in *ReleaseInput) { in.DiffID = "sha256:12" },
		"tag":          func(t *testing.T, in *ReleaseInput) { in.Tags = []string{"../x"} },
		"no EROFS":     func(t *testing.T, in *ReleaseInput) { in.EROFS += "-not-there" },
		"no document":  func(t *testing.T, in *ReleaseInput) { d := *in.Document; d.Version = ""; in.Document = &d },
	} {
		t.Run(name, func(t *testing.T) {
			l, err := CreateLayout(filepath.Join(t.TempDir(), "out"))
			must(t, err)
			in := newFixture(t, "1.0.0", 1000).input(t)
			spoil(t, &in)
			if _, err := l.WriteRelease(context.Background(), in); err == nil {
				t.Error("it was written")
			}
			if tags, err := l.Repository().Tags(context.Background()); err != nil || len(tags) != 0 {
				t.Errorf("tags %q, %v", tags, err)
			}
			if left, _ := filepath.Glob(filepath.Join(l.dir, "blobs", ".part-*")); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func flipByte(t *testing.T, name string) {
	t.Helper()
	b, err := os.ReadFile(name)
	must(t, err)
	b[len(b)/2] ^= 1
	must(t, os.WriteFile(name, b, 0o600))
}

func TestCreateLayoutSparesOtherDirectories(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "thesis.tex"), []byte("x"), 0o600))
	if _, err := CreateLayout(dir); err == nil || !strings.Contains(err.Error(), "not an OCI layout") {
		t.Errorf("got %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("it holds %v now", entries)
	}
}

// TestSweep: what a killed writer left goes, what another writes stays.
func TestSweep(t *testing.T) {
	f := newFixture(t, "1.0.0", 1000).written(t, "")
	dead := filepath.Join(f.dir, "blobs", ".part-123")
	must(t, os.WriteFile(dead, []byte("half a"), 0o600))
	living, err := f.layout.newBlob()
	must(t, err)
	defer living.abandon()
	if _, err := CreateLayout(f.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dead); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the dead part: %v", err)
	}
	if _, err := living.commit("text/plain"); err != nil {
		t.Errorf("the living part: %v", err)
	}
}

func TestTagsFromManyWriters(t *testing.T) {
	f := newFixture(t, "1.0.0", 1000).written(t, "")
	var group sync.WaitGroup
	for i := range 20 {
		group.Add(1)
		go func() {
			defer group.Done()
			if err := f.layout.SetTags(f.index, fmt.Sprintf("t%d", i)); err != nil {
				t.Error(err)
			}
		}()
	}
	group.Wait()
	tags, err := f.layout.Repository().Tags(context.Background())
	if err != nil || len(tags) != 21 {
		t.Errorf("%d tags, %v; want 21", len(tags), err)
	}
}

// TestDamagedLayout: one changed byte of anything is noticed by whoever reads it.
func TestDamagedLayout(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t, "1.0.0", 1000).written(t, "", "stable")
	rel, err := f.layout.Repository().ReadRelease(ctx, "stable")
	must(t, err)
	for what, c := range map[string]struct {
		desc ocispec.Descriptor
		read func() ([]byte, error)
	}{
		"index":    {rel.Index, func() ([]byte, error) { _, err := rel.repo.ReadRelease(ctx, "stable"); return nil, err }},
		"artifact": {rel.Manifest, func() ([]byte, error) { _, err := rel.repo.ReadRelease(ctx, "stable"); return nil, err }},
		"EROFS":    {rel.EROFS, func() ([]byte, error) { return readAll(rel.OpenEROFS(ctx)) }},
		"UKI":      {rel.UKI, func() ([]byte, error) { return readAll(rel.OpenUKI(ctx)) }},
		"pack":     {rel.Pack, func() ([]byte, error) { return readAll(rel.OpenPack(ctx)) }},
	} {
		name := f.layout.BlobPath(c.desc.Digest)
		flipByte(t, name)
		if _, err := c.read(); err == nil {
			t.Errorf("%s: the change was not noticed", what)
		}
		flipByte(t, name)
		must(t, os.Truncate(name, c.desc.Size-1))
		if _, err := c.read(); err == nil {
			t.Errorf("%s: the missing byte was not noticed", what)
		}
		must(t, os.Remove(name))
		if _, err := c.read(); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s, removed: %v", what, err)
		}
		f.written(t, f.dir, "stable") // mends it
	}
}

// TestDecompressedSize: a stream that gives more or less than the document says is refused.
func TestDecompressedSize(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t, "1.0.0", 1000).written(t, "", "stable")
	rel, err := f.layout.Repository().ReadRelease(ctx, "stable")
	must(t, err)
	z, err := zstd.NewWriter(nil)
	must(t, err)
	size := int(f.doc.UKI.Size)
	for _, c := range []struct {
		name  string
		bytes []byte
		want  string
	}{
		{"a bomb", z.EncodeAll(make([]byte, 64<<20), nil), "more than"},
		{"one byte less", z.EncodeAll(f.uki[:size-1], nil), "should to"},
		{"other bytes", z.EncodeAll(make([]byte, size), nil), "damaged"},
		{"no zstd", []byte("hello"), "decompressing"},
		{"something behind it", append(z.EncodeAll(f.uki, nil), "more"...), "decompressing"},
	} {
		desc, err := f.layout.PutBlob(TypeUKI, bytes.NewReader(c.bytes))
		must(t, err)
		changed := *rel
		changed.UKI = desc
		got, err := readAll(changed.OpenUKI(ctx))
		if err == nil || !strings.Contains(err.Error(), c.want) || len(got) > size {
			t.Errorf("%s: %d bytes, %v; want %q", c.name, len(got), err, c.want)
		}
	}
}

// TestDisagreement: an artifact that has other files than its document says is no release.
func TestDisagreement(t *testing.T) {
	f := newFixture(t, "1.0.0", 1000).written(t, "", "stable")
	rel, err := f.layout.Repository().ReadRelease(context.Background(), "stable")
	must(t, err)
	for name, change := range map[string]func(r *Release){
		"pack_index":      func(r *Release) { r.PackIndex.Digest = r.SBOM.Digest },
		"sbom":            func(r *Release) { r.SBOM.Size++ },
		"lock":            func(r *Release) { r.Lock.Digest = r.SBOM.Digest },
		"compressed uki":  func(r *Release) { r.UKI.Size = r.Document.UKI.Size * 2 },
		"compressed root": func(r *Release) { r.EROFS.Size = r.Document.Root().Size * 2 },
		"plain uki":       func(r *Release) { d := *r.Document; d.UKI.Size = maxUKI + 1; r.Document = &d },
	} {
		changed := *rel
		change(&changed)
		if changed.agree() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	must(t, rel.agree())
}

func TestPackIsMovedNotCopied(t *testing.T) {
	l, err := CreateLayout(filepath.Join(t.TempDir(), "out"))
	must(t, err)
	content := noise(9, 100_000)
	path := filepath.Join(filepath.Dir(l.dir), "pack")
	must(t, os.WriteFile(path, content, 0o600))
	before, err := os.Stat(path)
	must(t, err)
	desc, err := l.PutBlobFile(ocispec.MediaTypeImageLayerZstd, path, digest.FromBytes(content))
	must(t, err)
	after, err := os.Stat(l.BlobPath(desc.Digest))
	if err != nil || !os.SameFile(before, after) || after.Mode() != 0o644 {
		t.Errorf("the blob is %v, %v", after, err)
	}
	if got, err := readAll(l.Repository().FetchRange(context.Background(), desc, 5, 10)); err != nil || !bytes.Equal(got, content[5:15]) {
		t.Errorf("range: %x, %v", got, err)
	}
	for _, bad := range []Range{{-1, 5}, {0, 0}, {0, -1}, {99_999, 2}, {1 << 62, 1 << 62}} {
		if _, err := l.Repository().FetchRange(context.Background(), desc, bad.Offset, bad.Length); err == nil {
			t.Errorf("range %+v was accepted", bad)
		}
	}
}

func TestOpenNames(t *testing.T) {
	f := newFixture(t, "1.0.0", 1000).written(t, "")
	digest := "sha256:" + strings.Repeat("a", 64)
	for _, c := range []struct{ ref, name, tag string }{
		{f.dir, "oci:" + f.dir, ""},
		{f.dir + "/", "oci:" + f.dir + "/", ""},
		{f.dir + ":stable", "oci:" + f.dir, "stable"},
		{"oci:" + f.dir + "@" + digest, "oci:" + f.dir, digest},
		{"registry.example/acme/server", "registry.example/acme/server", ""},
		{"registry.example:5000/acme/server:stable", "registry.example:5000/acme/server", "stable"},
		{"registry.example/acme/server@" + digest, "registry.example/acme/server", digest},
	} {
		r, tag, err := Open(c.ref, Options{})
		if err != nil || r.Name != c.name || tag != c.tag {
			t.Errorf("Open(%q) = %+v, %q, %v", c.ref, r, tag, err)
		}
	}
	for _, ref := range []string{"", "server", "./nowhere", "oci:/nowhere", "registry.example/UPPER", "registry.example/a:bad tag", "http://registry.example/a"} {
		if r, tag, err := Open(ref, Options{}); err == nil {
			t.Errorf("Open(%q) = %q, %q", ref, r.Name, tag)
		}
	}
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1:1": true, "127.9.9.9": true, "[::1]:5000": true, "[::1]": true,
		"localhost.example": false, "10.0.2.2:5000": false, "1270.0.0.1": false, "": false,
	} {
		if isLoopback(host) != want {
			t.Errorf("isLoopback(%q) = %t", host, !want)
		}
	}
}

func TestStreamEndsOnce(t *testing.T) {
	f := newFixture(t, "1.0.0", 10).written(t, "", "stable")
	rel, err := f.layout.Repository().ReadRelease(context.Background(), "stable")
	must(t, err)
	rc, err := rel.OpenEROFS(context.Background())
	must(t, err)
	defer rc.Close()
	got, n, err := verity.SumReader(rc)
	if err != nil || got != f.doc.Root().Digest || n != f.doc.Root().Size {
		t.Errorf("digest %s of %d bytes, %v", got, n, err)
	}
	if _, err := rc.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
}
