package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/program"
)

// plainTar decompresses blob with the reference decoder.
func plainTar(t *testing.T, blob []byte) []byte {
	t.Helper()
	out, err := program.Run(context.Background(), program.Command{Args: []string{"zstd", "-d", "-c"}, Stdin: bytes.NewReader(blob)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// TestZstdReadsIt: the frames in a row are one zstd stream of one tar, and the
// digests of both are what Write said.
func TestZstdReadsIt(t *testing.T) {
	tr, c := randomTree(1, 800, 9<<20)
	blob, res := mustWrite(t, tr, c, Options{})
	plain := plainTar(t, blob)
	if res.SHA256 != sum(blob) || res.Size != int64(len(blob)) {
		t.Errorf("the blob is said to be %q of %d bytes, it is %q of %d", res.SHA256, res.Size, sum(blob), len(blob))
	}
	if res.DiffID != "sha256:"+sum(plain) || res.TarSize != int64(len(plain)) {
		t.Errorf("the tar is said to be %q of %d bytes, it is %q of %d", res.DiffID, res.TarSize, sum(plain), len(plain))
	}
	for i, e := range res.Index.Objects {
		at := res.Index.Frames[e.Frame].Start + e.Offset
		if !bytes.Equal(plain[at:at+int64(e.Size)], c[e.Digest]) {
			t.Errorf("object %d is not at %d of the tar", i, at)
		}
	}
}

// TestTarSaysEverything reads the tar with archive/tar and compares each member
// with the tree.
func TestTarSaysEverything(t *testing.T) {
	tr, c := randomTree(2, 1200, 1<<20)
	odd := tr.Root.Add(c.file("odd", bytes.Repeat([]byte("x"), 100)))
	odd.UID, odd.GID = 1<<31, 4_000_000_000
	odd.Mode = tree.TypeRegular | 0o4755
	odd.Mtime = tree.Time{Sec: -5, Nsec: 250_000_000}
	odd.Xattrs = []tree.Xattr{{Key: "security.capability", Value: []byte("\x01\x00\x00\x02\x00\x20\x00\x00")}, {Key: "user.long", Value: bytes.Repeat([]byte{0}, 4000)}}
	tr.Root.Add(&tree.Node{Name: "disk", Mode: tree.TypeBlock | 0o660, Nlink: 1, Rdev: 0x12300845})
	tr.Root.Add(&tree.Node{Name: "to", Mode: tree.TypeSymlink | 0o777, Nlink: 1, Target: strings.Repeat("far/", 200)})
	blob, _ := mustWrite(t, tr, c, Options{})

	nodes := make(map[string]*tree.Node)
	_ = tr.Walk(func(path string, n *tree.Node) error {
		nodes[strings.TrimPrefix(path, "/")] = n
		return nil
	})
	types := map[byte]uint32{
		tar.TypeDir: tree.TypeDir, tar.TypeReg: tree.TypeRegular, tar.TypeSymlink: tree.TypeSymlink,
		tar.TypeChar: tree.TypeChar, tar.TypeBlock: tree.TypeBlock, tar.TypeFifo: tree.TypeFIFO,
	}
	r := tar.NewReader(bytes.NewReader(plainTar(t, blob)))
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(strings.TrimSuffix(h.Name, "/"), ".")
		n := nodes[name]
		if n == nil {
			t.Errorf("%q is not in the tree, or twice in the tar", h.Name)
			continue
		}
		delete(nodes, name)
		if h.Typeflag == tar.TypeLink {
			if n.HardLink == nil || tr.Lookup(h.Linkname) != n.HardLink {
				t.Errorf("%q is a hard link to %q", h.Name, h.Linkname)
			}
			continue
		}
		if n.HardLink != nil {
			t.Errorf("%q is not a hard link", h.Name)
			continue
		}
		got := tree.Node{
			Mode: types[h.Typeflag] | uint32(h.Mode), UID: uint32(h.Uid), GID: uint32(h.Gid),
			Mtime:  tree.Time{Sec: h.ModTime.Unix(), Nsec: uint32(h.ModTime.Nanosecond())},
			Target: h.Linkname, Rdev: uint32(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))),
		}
		want := tree.Node{Mode: n.Mode, UID: n.UID, GID: n.GID, Mtime: n.Mtime, Target: n.Target, Rdev: n.Rdev}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q is\n%+v, want\n%+v", h.Name, got, want)
		}
		attrs := map[string]string{}
		for k, v := range h.PAXRecords {
			if k, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
				attrs[k] = v
			}
		}
		for _, x := range n.Xattrs {
			if v, ok := attrs[x.Key]; !ok || v != string(x.Value) {
				t.Errorf("%q: attribute %q is %q, want %q", h.Name, x.Key, v, x.Value)
			}
		}
		if len(attrs) != len(n.Xattrs) {
			t.Errorf("%q has %d attributes, want %d", h.Name, len(attrs), len(n.Xattrs))
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if n.IsRegular() && !bytes.Equal(content, contentOf(n, c)) {
			t.Errorf("%q has other content", h.Name)
		}
	}
	for name := range nodes {
		t.Errorf("%q is not in the tar", name)
	}
}

func contentOf(n *tree.Node, c contents) []byte {
	if n.Digest.IsZero() {
		return n.Inline
	}
	return c[n.Digest]
}

// systemTree is a tree with /etc as compose leaves it.
func systemTree() (*tree.Tree, contents) {
	c := contents{}
	root := dir("")
	root.Add(dir("etc")).Mode = tree.TypeDir | 0o711
	usr := root.Add(dir("usr"))
	etc := usr.Add(dir("etc"))
	passwd := etc.Add(c.file("passwd", bytes.Repeat([]byte("root:x:0:0::/root:/bin/bash\n"), 9)))
	passwd.Nlink = 2
	etc.Add(&tree.Node{Name: "passwd-", HardLink: passwd})
	etc.Add(c.file("hostname", []byte("inline\n")))
	etc.Add(c.file("empty", nil))
	etc.Add(&tree.Node{Name: "mtab", Mode: tree.TypeSymlink | 0o777, Nlink: 1, Target: "../proc/self/mounts"})
	ssl := etc.Add(dir("ssl"))
	ssl.Mode = tree.TypeDir | 0o750
	ssl.Add(c.file("openssl.cnf", bytes.Repeat([]byte("[ca]\n"), 3000)))
	usr.Add(c.file("large", bytes.Repeat([]byte("0123456789abcde\n"), 600_000))) // three frames
	root.Add(&tree.Node{Name: "socket", Mode: tree.TypeSocket | 0o600, Nlink: 1})
	return &tree.Tree{Root: root}, c
}

// TestTarUnpacks: GNU tar makes the tree from it, with /etc for a container. As
// the order is breadth first, tar must be told to set directories' times last;
// container engines always do.
func TestTarUnpacks(t *testing.T) {
	tr, c := systemTree()
	blob, _ := mustWrite(t, tr, c, Options{})
	out := t.TempDir()
	_, err := program.Run(context.Background(), program.Command{Args: []string{"tar", "--zstd", "--delay-directory-restore", "-xp", "-C", out}, Stdin: bytes.NewReader(blob)})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"usr/large", "usr/etc/ssl/openssl.cnf", "usr/etc/hostname", "usr/etc/empty"} {
		got, err := os.ReadFile(filepath.Join(out, path))
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(got, contentOf(tr.Lookup(path), c)) {
			t.Errorf("%q has other content", path)
		}
	}
	for _, pair := range [][2]string{
		{"usr/etc/passwd", "usr/etc/passwd-"}, {"usr/etc/passwd", "etc/passwd"}, {"usr/etc/passwd", "etc/passwd-"},
		{"usr/etc/hostname", "etc/hostname"}, {"usr/etc/ssl/openssl.cnf", "etc/ssl/openssl.cnf"},
	} {
		var a, b syscall.Stat_t
		if err := syscall.Lstat(filepath.Join(out, pair[0]), &a); err != nil {
			t.Error(err)
		} else if err := syscall.Lstat(filepath.Join(out, pair[1]), &b); err != nil {
			t.Error(err)
		} else if a.Ino != b.Ino {
			t.Errorf("%q and %q are two files", pair[0], pair[1])
		}
	}
	if got, err := os.Readlink(filepath.Join(out, "etc/mtab")); err != nil || got != "../proc/self/mounts" {
		t.Errorf("etc/mtab points to %q, %v", got, err)
	}
	for path, mode := range map[string]os.FileMode{"etc": 0o711, "etc/ssl": 0o750, "usr/etc/ssl": 0o750} {
		if fi, err := os.Stat(filepath.Join(out, path)); err != nil || fi.Mode().Perm() != mode || fi.ModTime().Unix() != 1_700_000_000 {
			t.Errorf("%q is %v, %v", path, fi, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(out, "socket")); !os.IsNotExist(err) {
		t.Errorf("the socket: %v", err)
	}
}

// TestSkopeoTakesIt: the library under podman and skopeo accepts the layer in an
// OCI image, and decompresses it to the tar that its configuration names.
func TestSkopeoTakesIt(t *testing.T) {
	tr, c := systemTree()
	blob, res := mustWrite(t, tr, c, Options{})
	layout, copied := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	put := func(mediaType string, b []byte) map[string]any {
		dir := filepath.Join(layout, "blobs", "sha256")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, sum(b)), b, 0o644); err != nil {
			t.Fatal(err)
		}
		return map[string]any{"mediaType": mediaType, "digest": "sha256:" + sum(b), "size": len(b)}
	}
	encode := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	const oci = "application/vnd.oci.image."
	config := put(oci+"config.v1+json", encode(map[string]any{
		"architecture": "amd64", "os": "linux",
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{res.DiffID}},
	}))
	manifest := put(oci+"manifest.v1+json", encode(map[string]any{
		"schemaVersion": 2, "mediaType": oci + "manifest.v1+json", "config": config,
		"layers": []any{put(oci+"layer.v1.tar+zstd", blob)},
	}))
	for name, v := range map[string]any{
		"oci-layout": map[string]any{"imageLayoutVersion": "1.0.0"},
		"index.json": map[string]any{"schemaVersion": 2, "manifests": []any{manifest}},
	} {
		if err := os.WriteFile(filepath.Join(layout, name), encode(v), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, err := program.Run(context.Background(), program.Command{Args: []string{
		"skopeo", "--insecure-policy", "copy", "--dest-decompress", fmt.Sprintf("oci:%s", layout), "dir:" + copied}})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := os.ReadFile(filepath.Join(copied, strings.TrimPrefix(res.DiffID, "sha256:")))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(plain, plainTar(t, blob)) {
		t.Errorf("skopeo makes another tar of it than zstd does")
	}
}
