package diskimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/pack"
	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// loaderPath is where Debian puts systemd-boot.
const loaderPath = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"

// makeRelease writes a release of a small real image into a layout, and
// returns its content as plain files, for comparison. A damaged one has another
// loader in its pack than in its image.
func makeRelease(t *testing.T, withLoader, damaged bool) (*registry.Release, Content) {
	t.Helper()
	dir := t.TempDir()
	c := Content{EROFS: filepath.Join(dir, "erofs"), UKI: filepath.Join(dir, "uki"), ObjectDir: filepath.Join(dir, "objects")}
	contents := make(map[*tree.Node][]byte)
	r := rand.NewChaCha8([32]byte{7})
	root := &tree.Node{Mode: tree.TypeDir | 0o755}
	file := func(path string, size int) {
		data := make([]byte, size)
		r.Read(data)
		at := root
		names := strings.Split(strings.Trim(path, "/"), "/")
		for _, name := range names[:len(names)-1] {
			if at.Child(name) == nil {
				at.Add(&tree.Node{Name: name, Mode: tree.TypeDir | 0o755})
			}
			at = at.Child(name)
		}
		d := verity.SumBytes(data)
		n := at.Add(&tree.Node{Name: names[len(names)-1], Mode: tree.TypeRegular | 0o644, Nlink: 1, Size: uint64(size), Digest: d, Payload: objectName(d)})
		contents[n] = data
		put(t, filepath.Join(c.ObjectDir, objectName(d)), data)
		if path == loaderPath {
			c.Loader = data
			if damaged {
				other := bytes.Clone(data)
				other[0] ^= 1
				contents[n] = other
			}
		}
	}
	file("/usr/bin/large", 700_000)
	file("/usr/share/small", 100)
	if withLoader {
		file(loaderPath, 90_000)
	}
	tr := &tree.Tree{Root: root}
	c.Objects = tr.Objects()

	var erofs, blob bytes.Buffer
	if err := composefs.Write(&erofs, tr, composefs.Options{}); err != nil {
		t.Fatal(err)
	}
	packed, err := pack.Write(context.Background(), &blob, tr, func(n *tree.Node) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(contents[n])), nil
	}, pack.Options{})
	if err != nil {
		t.Fatal(err)
	}
	uki := bytes.Repeat([]byte("boot"), 1000)
	put(t, c.EROFS, erofs.Bytes())
	put(t, c.UKI, uki)
	packPath := filepath.Join(dir, "pack")
	put(t, packPath, blob.Bytes())
	index, other := packed.Index.Encode(), []byte("{}\n")
	var total int64
	for _, obj := range c.Objects {
		total += int64(obj.Size)
	}
	c.Release = &release.Document{
		Schema: release.Schema, ID: "test-1.2", Name: "test", Version: "1.2", Architecture: "amd64", Created: created,
		Images: []release.Image{{Role: release.RoleRoot, Digest: verity.SumBytes(erofs.Bytes()), Size: int64(erofs.Len()), Objects: len(c.Objects), Bytes: total}},
		UKI:    describe(uki), Pack: describe(blob.Bytes()), PackIndex: describe(index), SBOM: describe(other), Lock: describe(other),
		RuleSet: release.RuleSet, Users: map[string]uint32{"root": 0}, Groups: map[string]uint32{"root": 0}, Builder: "test",
	}
	layout, err := registry.CreateLayout(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := layout.WriteRelease(context.Background(), registry.ReleaseInput{
		Document: c.Release, EROFS: c.EROFS, UKI: c.UKI, Pack: packPath, DiffID: packed.DiffID,
		PackIndex: index, SBOM: other, Lock: other, Tags: []string{"stable"},
	}); err != nil {
		t.Fatal(err)
	}
	rel, err := layout.Repository().ReadRelease(context.Background(), "stable")
	if err != nil {
		t.Fatal(err)
	}
	c.DocumentBytes, c.DocumentDigest = rel.DocumentBytes, rel.DocumentDigest
	return rel, c
}

func put(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
		t.Fatal(err)
	}
}

func describe(data []byte) release.File {
	sum := sha256.Sum256(data)
	return release.File{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data))}
}

// TestDiskOfAReleaseIsTheDiskOfItsContent fetches from a layout, and compares
// with the disk made from the files that the release was made of.
func TestDiskOfAReleaseIsTheDiskOfItsContent(t *testing.T) {
	rel, c := makeRelease(t, true, false)
	dir := t.TempDir()
	fetched, direct := filepath.Join(dir, "fetched"), filepath.Join(dir, "direct")
	if _, err := WriteRelease(context.Background(), fetched, rel, smallDisk()); err != nil {
		t.Fatal(err)
	}
	if err := Write(context.Background(), direct, c, smallDisk()); err != nil {
		t.Fatal(err)
	}
	tool(t, "cmp", fetched, direct)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

func TestUnusableReleases(t *testing.T) {
	for name, test := range map[string]struct {
		withLoader, damaged bool
		want                string
	}{
		"without a loader": {false, false, "systemd-boot-efi"},
		"damaged pack":     {true, true, "the pack holds other content for object"},
	} {
		t.Run(name, func(t *testing.T) {
			rel, _ := makeRelease(t, test.withLoader, test.damaged)
			dir := t.TempDir()
			_, err := WriteRelease(context.Background(), filepath.Join(dir, "disk"), rel, smallDisk())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
			expectEmpty(t, dir)
		})
	}
}
