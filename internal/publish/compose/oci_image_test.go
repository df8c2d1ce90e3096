package compose

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/program"
)

var amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}

// storeInline keeps contents in the nodes themselves, whatever their size.
func storeInline(n *tree.Node, r io.Reader, size int64) error {
	b, err := io.ReadAll(r)
	if err == nil && int64(len(b)) != size {
		err = fmt.Errorf("got %d bytes, the header says %d", len(b), size)
	}
	n.Inline, n.Size = b, uint64(size)
	return err
}

// file is a tar header of a regular file, and tarOf fills in what is common.
func file(name, content string) tarEntry {
	return tarEntry{Header: tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, content: content}
}

func other(name string, typeflag byte, linkname string) tarEntry {
	return tarEntry{Header: tar.Header{Name: name, Typeflag: typeflag, Mode: 0o755, Linkname: linkname}}
}

func (e tarEntry) xattr(key, value string) tarEntry {
	e.PAXRecords = map[string]string{"SCHILY.xattr." + key: value}
	return e
}

type tarEntry struct {
	tar.Header
	content string
}

func tarOf(t testing.TB, entries ...tarEntry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		e.Size = int64(len(e.content))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// layout is an OCI layout directory that a test writes by hand.
type layout struct {
	t   testing.TB
	dir string
}

func newLayout(t testing.TB) layout {
	l := layout{t, t.TempDir()}
	l.write("oci-layout", []byte(`{"imageLayoutVersion": "1.0.0"}`))
	return l
}

func (l layout) write(name string, b []byte) {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (l layout) blob(mediaType string, b []byte) ocispec.Descriptor {
	l.t.Helper()
	d := digest.FromBytes(b)
	l.write("blobs/sha256/"+d.Encoded(), b)
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

func (l layout) json(mediaType string, v any) ocispec.Descriptor {
	l.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.blob(mediaType, b)
}

// image writes an image of plain layers; change may spoil it first.
func (l layout) image(p ocispec.Platform, change func(*ocispec.Manifest, *ocispec.Image), layers ...[]byte) ocispec.Descriptor {
	l.t.Helper()
	config := ocispec.Image{Platform: p, RootFS: ocispec.RootFS{Type: "layers"}}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, b := range layers {
		manifest.Layers = append(manifest.Layers, l.blob(ocispec.MediaTypeImageLayer, b))
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(b))
	}
	if change != nil {
		change(&manifest, &config)
	}
	manifest.Config = l.json(ocispec.MediaTypeImageConfig, config)
	desc := l.json(ocispec.MediaTypeImageManifest, manifest)
	desc.Platform = &p
	return desc
}

// tag makes tags name descs in index.json.
func (l layout) tag(named map[string]ocispec.Descriptor) {
	l.t.Helper()
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for name, desc := range named {
		desc.Platform = nil
		desc.Annotations = map[string]string{ocispec.AnnotationRefName: name}
		index.Manifests = append(index.Manifests, desc)
	}
	b, err := json.Marshal(index)
	if err != nil {
		l.t.Fatal(err)
	}
	l.write("index.json", b)
}

func mustFlatten(t *testing.T, dir, tag string) *ociBase {
	t.Helper()
	base, err := flattenLayout(t, dir, tag)
	if err != nil {
		t.Fatal(err)
	}
	return base
}

// describe has a line for every name of a tree: all that an image holds of it
// but the times of directories, which no two unpackers leave the same.
func describe(t *testing.T, tr *tree.Tree) []string {
	t.Helper()
	var lines []string
	firstName := make(map[*tree.Node]string)
	err := tr.Walk(func(path string, n *tree.Node) error {
		inode := n.Inode()
		if n.HardLink == nil {
			firstName[n] = path
		}
		mtime := inode.Mtime.Sec
		if inode.IsDir() {
			mtime = 0
		}
		var xattrs []string
		for _, x := range inode.Xattrs {
			xattrs = append(xattrs, fmt.Sprintf("%s=%q", x.Key, x.Value))
		}
		lines = append(lines, fmt.Sprintf("%s %o %d:%d mtime %d %x -> %q first %s %s", path, inode.Mode, inode.UID, inode.GID,
			mtime, sha256.Sum256(inode.Inline), inode.Target, firstName[inode], xattrs))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// describeDir is describe for a directory on disk.
func describeDir(t *testing.T, dir string) []string {
	t.Helper()
	var lines []string
	type inode struct{ dev, ino uint64 }
	firstName := make(map[inode]string)
	var walk func(path string)
	walk = func(path string) {
		full := filepath.Join(dir, path)
		var st unix.Stat_t
		if err := unix.Lstat(full, &st); err != nil {
			t.Fatal(err)
		}
		var content []byte
		var target string
		var err error
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			content, err = os.ReadFile(full)
		case unix.S_IFLNK:
			target, err = os.Readlink(full)
		case unix.S_IFDIR:
			st.Mtim.Sec = 0
		}
		if err != nil {
			t.Fatal(err)
		}
		id := inode{uint64(st.Dev), st.Ino}
		if firstName[id] == "" {
			firstName[id] = path
		}
		lines = append(lines, fmt.Sprintf("%s %o %d:%d mtime %d %x -> %q first %s %s", path, st.Mode, st.Uid, st.Gid,
			st.Mtim.Sec, sha256.Sum256(content), target, firstName[id], xattrsOf(t, full)))
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			entries, err := os.ReadDir(full)
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range entries {
				walk(filepath.Join(path, entry.Name()))
			}
		}
	}
	walk("/")
	return lines
}

func xattrsOf(t *testing.T, path string) []string {
	t.Helper()
	buf := make([]byte, 1<<16)
	n, err := unix.Llistxattr(path, buf)
	if err != nil && err != unix.ENOTSUP {
		t.Fatal(err)
	}
	var list []string
	for key := range strings.SplitSeq(strings.TrimSuffix(string(buf[:max(n, 0)]), "\x00"), "\x00") {
		if key == "" || strings.HasPrefix(key, "user.umoci.") || key == "security.selinux" {
			continue
		}
		value := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(path, key, value)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%s=%q", key, value[:n]))
	}
	sort.Strings(list)
	return list
}

// sameLines compares descriptions; a normal user cannot own what root does.
func sameLines(t *testing.T, got, want []string) {
	t.Helper()
	if len(want) < 5 {
		t.Fatalf("only %d names to compare", len(want))
	}
	if os.Geteuid() != 0 {
		got, want = withoutOwners(got), withoutOwners(want)
	}
	// The walks differ in order only ("a.b" and "a/b"), so compare as sets.
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	for _, line := range got {
		if _, ok := slices.BinarySearch(want, line); !ok {
			t.Errorf("only in the flattened tree: %s", line)
		}
	}
	for _, line := range want {
		if _, ok := slices.BinarySearch(got, line); !ok {
			t.Errorf("only in what umoci unpacked: %s", line)
		}
	}
}

func withoutOwners(lines []string) []string {
	var list []string
	for _, line := range lines {
		before, after, _ := strings.Cut(line, ":")
		_, after, _ = strings.Cut(after, " ")
		list = append(list, before[:strings.LastIndexByte(before, ' ')]+" "+after)
	}
	return list
}

func run(t *testing.T, args ...string) {
	t.Helper()
	if _, err := program.Run(t.Context(), program.Command{Args: args}); err != nil {
		t.Fatal(err)
	}
}

func zstdOf(t *testing.T, b []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	return enc.EncodeAll(b, nil)
}
