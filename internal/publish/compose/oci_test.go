package compose

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// A real image: a Debian package, changed twice with umoci's own diffs, and a
// layer with opaque directories on top; umoci's unpacking is the oracle.
func TestFlattenLikeUmoci(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	bundle := filepath.Join(dir, "bundle")
	root := filepath.Join(bundle, "rootfs")
	var rootless []string
	if os.Geteuid() != 0 {
		rootless = []string{"--rootless"}
	}
	umoci := func(args ...string) {
		t.Helper()
		if args[0] == "unpack" {
			args = slices.Insert(args, 1, rootless...)
		}
		run(t, append([]string{"umoci"}, args...)...)
	}
	umoci("init", "--layout", image)
	umoci("new", "--image", image+":one")
	umoci("unpack", "--image", image+":one", bundle)
	installed, err := exec.CommandContext(t.Context(), "sh", "-c", `dpkg -L perl-base | grep /usr/ |
		tar -c -C / --ignore-failed-read --no-recursion --verbatim-files-from -T - | tar -x -C "$0"`, root).CombinedOutput()
	if err != nil {
		t.Fatalf("copying perl-base: %v\n%s", err, installed)
	}
	perl := filepath.Join(root, "usr/bin/perl") // has a hard link, perl5.N
	if err := unix.Setxattr(perl, "user.ashlar", []byte("v\x00\xff"), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(root, "a/b/c"), 0o750))
	must(os.WriteFile(filepath.Join(root, "a/b/c/file"), []byte("one"), 0o604))
	must(os.WriteFile(filepath.Join(root, "a/becomes-dir"), nil, 0o4755))
	must(os.Mkdir(filepath.Join(root, "becomes-link"), 0o755))
	must(os.WriteFile(filepath.Join(root, "becomes-link/x"), nil, 0o600))
	must(os.Symlink("usr/bin", filepath.Join(root, "bin")))
	must(unix.Mkfifo(filepath.Join(root, "a/fifo"), 0o622))
	umoci("repack", "--refresh-bundle", "--image", image+":one", bundle)

	must(os.Remove(perl))
	must(os.RemoveAll(filepath.Join(root, "a/b")))
	must(os.MkdirAll(filepath.Join(root, "a/b"), 0o755))
	must(os.WriteFile(filepath.Join(root, "a/b/new"), []byte("two"), 0o644))
	must(os.Remove(filepath.Join(root, "a/becomes-dir")))
	must(os.Mkdir(filepath.Join(root, "a/becomes-dir"), 0o1777))
	must(os.RemoveAll(filepath.Join(root, "becomes-link")))
	must(os.Symlink("/a", filepath.Join(root, "becomes-link")))
	must(os.Link(filepath.Join(root, "a/b/new"), filepath.Join(root, "another")))
	umoci("repack", "--refresh-bundle", "--image", image+":two", bundle)

	// Written through the links that lower layers left, as some builders do.
	layer := filepath.Join(dir, "layer.tar")
	must(os.WriteFile(layer, tarOf(t,
		other("a/", tar.TypeDir, ""),
		file("a/.wh..wh..opq", ""),
		file("a/kept", "three"),
		file("becomes-link/through", "the link"),
		file("bin/tool", "in usr/bin"),
		other("again", tar.TypeLink, "another"),
		file("usr/share/doc/.wh.perl-base", ""),
	), 0o644))
	umoci("raw", "add-layer", "--image", image+":two", "--tag", "three", layer)

	for _, tag := range []string{"one", "two", "three"} {
		out := filepath.Join(dir, "unpacked-"+tag)
		umoci("unpack", "--image", image+":"+tag, out)
		base := mustFlatten(t, image, tag)
		sameLines(t, describe(t, base.Tree), describeDir(t, filepath.Join(out, "rootfs")))
		if base.Config.Architecture != "amd64" || base.Manifest.Validate() != nil {
			t.Errorf("%s: config %+v, manifest %q", tag, base.Config.Platform, base.Manifest)
		}
	}

	// The same image as skopeo compresses it with zstd is the same tree.
	again := filepath.Join(dir, "zstd")
	run(t, "skopeo", "copy", "--insecure-policy", "-q", "--dest-compress", "--dest-compress-format", "zstd",
		"oci:"+image+":three", "oci:"+again+":three")
	sameLines(t, describe(t, mustFlatten(t, again, "three").Tree), describe(t, mustFlatten(t, image, "three").Tree))
}

func lines(t *testing.T, layers ...[]byte) []string {
	t.Helper()
	l := newLayout(t)
	l.tag(map[string]ocispec.Descriptor{"x": l.image(amd64, nil, layers...)})
	var list []string
	err := mustFlatten(t, l.dir, "x").Tree.Walk(func(path string, n *tree.Node) error {
		switch {
		case n.HardLink != nil:
			path += " = " + n.HardLink.Name
		case n.IsSymlink():
			path += " -> " + n.Target
		case n.IsRegular():
			path += " " + string(n.Inline)
		}
		list = append(list, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list[1:]
}

// What the specification says about order within a layer: nothing, so a
// whiteout before or after the layer's own files means the same.
func TestWhiteoutsMeanLowerLayersOnly(t *testing.T) {
	low := tarOf(t, file("d/old", "1"), file("f", "1"), file("d/sub/old", "1"), other("hard", tar.TypeLink, "f"))
	for name, upper := range map[string][]tarEntry{
		"before": {file("d/.wh..wh..opq", ""), file(".wh.f", ""), file("d/sub/new", "2"), file("f", "2")},
		"after":  {file("d/sub/new", "2"), file("f", "2"), file(".wh.f", ""), file("d/.wh..wh..opq", "")},
		"twice":  {file("d/.wh..wh..opq", ""), file("d/sub/new", "2"), file("d/.wh..wh..opq", ""), file(".wh.f", ""), file("f", "2")},
	} {
		got := lines(t, low, tarOf(t, upper...))
		want := []string{"/d", "/d/sub", "/d/sub/new 2", "/f 2", "/hard 1"}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestFlattenDetails(t *testing.T) {
	got := lines(t,
		tarOf(t, other("./", tar.TypeDir, ""), file("./a", "1"), file("/abs", "2"), other("dev/null", tar.TypeChar, ""),
			other("loop", tar.TypeSymlink, "loop"), other("up", tar.TypeSymlink, "../../x"), other("x/", tar.TypeDir, "")),
		tarOf(t, file("up/in", "3"), file(".wh..wh.plnk", ""), file(".wh.none", ""), file("none/.wh.x", "")),
		tarOf(t, file("a", "4"), file("a", "5")))
	want := []string{"/a 5", "/abs 2", "/loop -> loop", "/up -> ../../x", "/x", "/x/in 3"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestFlattenKeepsXattrs(t *testing.T) {
	l := newLayout(t)
	l.tag(map[string]ocispec.Descriptor{"x": l.image(amd64, nil, tarOf(t,
		file("ping", "x").xattr("security.capability", "\x01\x00\x00\x02\x00 \x00"), file("label", "x").xattr("security.selinux", "u:r:t")))})
	root := mustFlatten(t, l.dir, "x").Tree.Root
	if got := root.Child("ping").Xattrs; len(got) != 1 || got[0].Key != "security.capability" || len(got[0].Value) != 7 {
		t.Errorf("ping: %q", got)
	}
	if got := root.Child("label").Xattrs; len(got) != 0 {
		t.Errorf("label: %q", got)
	}
}

func TestFlattenRefuses(t *testing.T) {
	long := strings.Repeat("n", 256)
	for want, layers := range map[string][][]byte{
		`contains ".."`:               {tarOf(t, file("a/../../etc/passwd", ""))},
		`hard link: path "../x"`:      {tarOf(t, other("a", tar.TypeLink, "../x"))},
		"which is not there":          {tarOf(t, other("a", tar.TypeLink, "b"))},
		"which is a directory":        {tarOf(t, file("d/f", ""), other("a", tar.TypeLink, "d"))},
		"hard link to the root":       {tarOf(t, other("a", tar.TypeLink, "/"))},
		"has a name of 256 bytes":     {tarOf(t, file(long, ""))},
		"directories deep":            {tarOf(t, file(strings.Repeat("d/", 300)+"f", ""))},
		"is not a directory":          {tarOf(t, file("f", "")), tarOf(t, file("f/x", ""))},
		"through more than 40":        {tarOf(t, other("l", tar.TypeSymlink, "l"), file("l/x", ""))},
		"twice":                       {tarOf(t, file("a/b", ""), file("a", ""))},
		"the whiteout names nothing":  {tarOf(t, file("a/.wh...", ""))},
		"device node (0:0)":           {tarOf(t, other("usr/null", tar.TypeChar, ""))},
		"device node (8:0)":           {tarOf(t, tarEntry{Header: tar.Header{Name: "dev", Typeflag: tar.TypeBlock, Devmajor: 8}})},
		"overlayfs' own":              {tarOf(t, file("a", "").xattr("trusted.overlay.redirect", "/x"))},
		"more than 32767 bytes":       {tarOf(t, file("a", "").xattr("user.x", strings.Repeat("v", 40000)))},
		"the root is not a directory": {tarOf(t, other("/", tar.TypeSymlink, "/x"))},
		"puts files below it":         {tarOf(t, other("d/", tar.TypeDir, "")), tarOf(t, file("d/f", ""), file("d", ""))},
		"owner":                       {tarOf(t, tarEntry{Header: tar.Header{Name: "a", Typeflag: tar.TypeReg, Uid: 1<<32 - 1}})},
		"reading tar":                 {bytes.Repeat([]byte("no tar at all"), 100)},
		"symbolic link to \"\"":       {tarOf(t, other("l", tar.TypeSymlink, ""))},
		"unexpected EOF":              {tarOf(t, file("a", strings.Repeat("x", 5000)))[:2000]},
	} {
		l := newLayout(t)
		l.tag(map[string]ocispec.Descriptor{"x": l.image(amd64, nil, layers...)})
		_, err := flattenLayout(t, l.dir, "x")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), `flattening image "x": layer `) {
			t.Errorf("got %v, want something with %q", err, want)
		}
	}
}

func TestFlattenVerifies(t *testing.T) {
	layer := tarOf(t, file("a", "content"))
	padded := append(slices.Clone(layer), make([]byte, 4096)...)
	for want, change := range map[string]func(*ocispec.Manifest, *ocispec.Image){
		"unpacked: its digest is": func(_ *ocispec.Manifest, c *ocispec.Image) { c.RootFS.DiffIDs[0] = digest.FromBytes(padded) },
		"it ends after":           func(m *ocispec.Manifest, _ *ocispec.Image) { m.Layers[0].Size++ },
		"it is longer than":       func(m *ocispec.Manifest, _ *ocispec.Image) { m.Layers[0].Size-- },
		"want 1 to":               func(m *ocispec.Manifest, _ *ocispec.Image) { m.Layers[0].Size = 1 << 60 },
		"none of a layer":         func(m *ocispec.Manifest, _ *ocispec.Image) { m.Layers[0].MediaType = "text/plain" },
		"compression":             func(m *ocispec.Manifest, _ *ocispec.Image) { m.Layers[0].MediaType += "+lzma" },
		"invalid header":          func(m *ocispec.Manifest, _ *ocispec.Image) { m.Layers[0].MediaType += "+gzip" },
		"diff_ids":                func(_ *ocispec.Manifest, c *ocispec.Image) { c.RootFS.DiffIDs = nil },
		"diff_id: digest":         func(_ *ocispec.Manifest, c *ocispec.Image) { c.RootFS.DiffIDs[0] = "sha256:../../x" },
		"it is for linux/arm64":   func(_ *ocispec.Manifest, c *ocispec.Image) { c.Architecture = "arm64" },
		"its descriptor says":     func(m *ocispec.Manifest, _ *ocispec.Image) { m.MediaType = dockerManifest },
	} {
		l := newLayout(t)
		l.tag(map[string]ocispec.Descriptor{"x": l.image(amd64, change, layer)})
		if _, err := flattenLayout(t, l.dir, "x"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something with %q", err, want)
		}
	}

	l := newLayout(t)
	desc := l.image(amd64, nil, layer)
	l.tag(map[string]ocispec.Descriptor{"x": desc})
	l.write("blobs/sha256/"+digest.FromBytes(layer).Encoded(), bytes.Replace(layer, []byte("content"), []byte("CONTENT"), 1))
	if _, err := flattenLayout(t, l.dir, "x"); err == nil || !strings.Contains(err.Error(), "its digest is") {
		t.Errorf("a changed blob: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := flattenOCI(ctx, ociOptions{Source: unverified(l.dir), Reference: "x", Platform: amd64, Store: storeInline})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestFlattenChoosesPlatform(t *testing.T) {
	l := newLayout(t)
	arm := ocispec.Platform{OS: "linux", Architecture: "arm64"}
	none := ocispec.Platform{OS: "unknown", Architecture: "unknown"} // how BuildKit marks attestations
	zst := l.image(amd64, func(m *ocispec.Manifest, _ *ocispec.Image) {
		m.Layers[0] = l.blob(dockerLayer+".zstd", zstdOf(t, tarOf(t, file("amd64", ""))))
	}, tarOf(t, file("amd64", "")))
	index := ocispec.Index{Manifests: []ocispec.Descriptor{
		l.image(none, nil, tarOf(t, file("none", ""))), l.image(arm, nil, tarOf(t, file("arm64", ""))), zst}}
	inner := l.json(dockerManifestList, index)
	outer := l.json(ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: []ocispec.Descriptor{inner}})
	deep := l.json(ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: []ocispec.Descriptor{outer}})
	foreign := l.json(ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: index.Manifests[:2]})
	l.tag(map[string]ocispec.Descriptor{"inner": inner, "outer": outer, "deep": deep, "foreign": foreign,
		"config": l.json(ocispec.MediaTypeImageConfig, ocispec.Image{})})
	for _, tag := range []string{"inner", "outer"} {
		base := mustFlatten(t, l.dir, tag)
		if base.Tree.Root.Child("amd64") == nil || base.Manifest != zst.Digest {
			t.Errorf("%s: %s", tag, base.Manifest)
		}
	}
	for tag, want := range map[string]string{
		"deep": "nested", "foreign": `no image for linux/amd64; it has ["unknown/unknown" "linux/arm64"]`, "config": "which is no image",
	} {
		if _, err := flattenLayout(t, l.dir, tag); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", tag, err)
		}
	}
}

// Half a million opaque markers over one large directory must not take the
// square of that.
func TestWhiteoutsAreLinear(t *testing.T) {
	layered := newLayeredTree(storeInline)
	layered.layer = 1
	for i := range 20000 {
		if err := layered.put("d/"+strings.Repeat("f", 1+i%200)+string(rune('a'+i/200%26))+string(rune('a'+i/5200)), &tree.Node{Mode: tree.TypeRegular}); err != nil {
			t.Fatal(err)
		}
	}
	layered.layer = 2
	started := time.Now()
	for range 20000 {
		if err := layered.put("d/kept", &tree.Node{Mode: tree.TypeRegular}); err != nil {
			t.Fatal(err)
		}
		if err := layered.opaque("d"); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func FuzzApply(f *testing.F) {
	f.Add(tarOf(f, file("d/old", "1"), other("hard", tar.TypeLink, "d/old"), other("l", tar.TypeSymlink, "../d"), file("l/x", "")),
		tarOf(f, file("d/.wh..wh..opq", ""), file(".wh.hard", ""), file("l/.wh.x", "")))
	f.Fuzz(func(t *testing.T, low, high []byte) {
		layered := newLayeredTree(func(n *tree.Node, _ io.Reader, size int64) error {
			n.Size = uint64(size)
			return nil
		})
		if layered.apply(t.Context(), bytes.NewReader(low)) != nil || layered.apply(t.Context(), bytes.NewReader(high)) != nil {
			return
		}
		links := make(map[*tree.Node]uint32)
		_ = layered.finish().Walk(func(path string, n *tree.Node) error {
			if !n.IsDir() {
				links[n.Inode()]++
			}
			if strings.Contains(path, "//") || strings.Contains(path+"/", "/../") || strings.Contains(path, whiteoutPrefix) {
				t.Errorf("path %q", path)
			}
			if !slices.IsSortedFunc(n.Children, func(a, b *tree.Node) int { return strings.Compare(a.Name, b.Name) }) {
				t.Errorf("%q is not sorted", path)
			}
			return nil
		})
		for n, count := range links {
			if n.Nlink != count {
				t.Errorf("%q has %d names and says %d", n.Name, count, n.Nlink)
			}
		}
	})
}
