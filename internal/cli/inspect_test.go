package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/pack"
	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/publish/compose"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// testTree has content in the image itself and as objects: what is longer than
// 64 bytes is an object, "-> x" a symbolic link, "= /x" a hard link to what
// comes before it.
func testTree(t *testing.T, seconds int64, entries ...[2]string) *tree.Tree {
	t.Helper()
	spool := t.TempDir()
	tr := &tree.Tree{Root: &tree.Node{Mode: tree.TypeDir | 0o755, Mtime: tree.Time{Sec: seconds}}}
	for _, entry := range entries {
		path, content := entry[0], entry[1]
		dir := tr.Root
		names := strings.Split(strings.Trim(path, "/"), "/")
		for _, name := range names[:len(names)-1] {
			if dir.Child(name) == nil {
				dir.Add(&tree.Node{Name: name, Mode: tree.TypeDir | 0o755, Mtime: tree.Time{Sec: seconds}})
			}
			dir = dir.Child(name)
		}
		n := &tree.Node{Name: names[len(names)-1], Mode: tree.TypeRegular | 0o644, Nlink: 1, Mtime: tree.Time{Sec: seconds}, Size: uint64(len(content))}
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			n.Mode, n.Target, n.Size = tree.TypeSymlink|0o777, target, uint64(len(target))
		} else if first, ok := strings.CutPrefix(content, "= "); ok {
			inode := tr.Lookup(first)
			inode.Nlink++
			n = &tree.Node{Name: n.Name, HardLink: inode}
		} else if len(content) <= 64 {
			n.Inline = []byte(content)
		} else {
			n.Digest = verity.SumBytes([]byte(content))
			n.Payload = n.Digest.String()[:2] + "/" + n.Digest.String()[2:]
			n.Source = filepath.Join(spool, n.Digest.String())
			if err := os.WriteFile(n.Source, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		dir.Add(n)
	}
	return tr
}

// testRelease writes a whole release of tr, made as a build makes it, but for
// a boot file that boots nothing.
func testRelease(t *testing.T, dir, version, bootFile string, tr *tree.Tree) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	work := t.TempDir()
	var image, blob bytes.Buffer
	must(composefs.Write(&image, tr, composefs.Options{}))
	packed, err := pack.Write(t.Context(), &blob, tr, func(n *tree.Node) (io.ReadCloser, error) { return os.Open(n.Source) }, pack.Options{})
	must(err)
	sbom, err := compose.SBOM(&compose.Result{Tree: tr}, "server", version, time.Unix(0, 0))
	must(err)
	sum := func(b []byte) release.File {
		s := sha256.Sum256(b)
		return release.File{SHA256: hex.EncodeToString(s[:]), Size: int64(len(b))}
	}
	index, lock := packed.Index.Encode(), []byte("schema = 1\n")
	doc := &release.Document{
		Schema: release.Schema, ID: "server-" + version, Name: "server", Version: version, Architecture: "amd64",
		Created: "2026-01-31T12:00:00Z", RuleSet: release.RuleSet, Builder: "ashlar test",
		UKI: sum([]byte(bootFile)), Pack: sum(blob.Bytes()), PackIndex: sum(index), SBOM: sum(sbom), Lock: sum(lock),
		Users: map[string]uint32{"root": 0, "web": 33}, Groups: map[string]uint32{"root": 0},
	}
	root := release.Image{Role: release.RoleRoot, Digest: verity.SumBytes(image.Bytes()), Size: int64(image.Len())}
	for _, object := range tr.Objects() {
		root.Objects++
		root.Bytes += int64(object.Size)
	}
	doc.Images = []release.Image{root}
	in := registry.ReleaseInput{Document: doc, DiffID: packed.DiffID, PackIndex: index, SBOM: sbom, Lock: lock,
		EROFS: filepath.Join(work, "erofs"), UKI: filepath.Join(work, "uki"), Pack: filepath.Join(work, "pack")}
	must(os.WriteFile(in.EROFS, image.Bytes(), 0o600))
	must(os.WriteFile(in.UKI, []byte(bootFile), 0o600))
	must(os.WriteFile(in.Pack, blob.Bytes(), 0o600))
	layout, err := registry.CreateLayout(dir)
	must(err)
	_, err = layout.WriteRelease(t.Context(), in)
	must(err)
}

// ashlar runs the command in-process and returns what it printed and its exit code.
func ashlar(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &globals{stdout: &out, stderr: &errs})
	return out.String(), errs.String(), code
}

const testStatus = `Package: dash
Version: 0.5.12-12
Architecture: amd64

Package: podman
Version: 5.4.2
Architecture: amd64
`

var longContent = strings.Repeat("a long content ", 20)

func inspectTree(t *testing.T) *tree.Tree {
	return testTree(t, 5,
		[2]string{"bin", "-> usr/bin"},
		[2]string{"usr/bin/dash", longContent},
		[2]string{"usr/bin/sh", "= /usr/bin/dash"},
		[2]string{"usr/etc/e\x1b[31mvil", "short"},
		[2]string{"usr/lib/modules/6.12.1-amd64/vmlinuz", longContent + "kernel"},
		[2]string{"usr/lib/sysimage/dpkg/status", testStatus},
	)
}

func TestInspect(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	tr := inspectTree(t)
	testRelease(t, dir, "1.0.0", "boot", tr)
	digest, size, err := composefs.Digest(tr)
	if err != nil {
		t.Fatal(err)
	}

	out, stderr, code := ashlar(t, "inspect", dir)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, want := range []string{
		"server 1.0.0 for amd64, 2026-01-31T12:00:00Z, from oci:" + dir + ":1.0.0\n", "; who signed it: --signed\n",
		digest.String() + ", ", "kernel         6.12.1-amd64\n", "packages       2\n", "accounts       2 users, 1 groups\n",
		"files          15; 3 objects, 711 B\n", "rule-set       1, applied by ashlar test\n", "boot file      sha256:",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}

	// The same through a registry.
	server, err := registry.NewServer(dir, registry.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	listening := httptest.NewServer(server)
	defer listening.Close()
	address := strings.TrimPrefix(listening.URL, "http://") + "/acme/server"
	served, stderr, code := ashlar(t, "inspect", address)
	if code != 0 || served != strings.Replace(out, "oci:"+dir, address, 1) {
		t.Errorf("exit code %d, %s%s", code, served, stderr)
	}

	if out, _, _ = ashlar(t, "inspect", "--packages", dir); out != "dash    0.5.12-12  amd64\npodman  5.4.2      amd64\n" {
		t.Errorf("packages:\n%s", out)
	}

	out, _, _ = ashlar(t, "inspect", "--files", dir)
	short := verity.SumBytes([]byte(longContent)).Short()
	for _, want := range []string{
		"symlink 0777     0:0              7 -            /bin -> usr/bin\n",
		"file    0644     0:0            300 " + short + " /usr/bin/dash\n",
		"file    0644     0:0            300 " + short + " /usr/bin/sh = /usr/bin/dash\n",
		`"/usr/etc/e\x1b[31mvil"` + "\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}

	var a inspectAnswer
	out, _, _ = ashlar(t, "inspect", "--json", "--files", dir)
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		t.Fatal(err)
	}
	if a.Document.Root().Digest != digest || a.Document.Root().Size != size || len(a.Files) != 15 || a.Packages != nil || a.PackageCount != 2 {
		t.Errorf("%+v", a)
	}
	for _, f := range a.Files {
		if f.Path == "/usr/bin/sh" && (f.HardLink != "/usr/bin/dash" || f.Digest == nil || f.Mode != "0644") {
			t.Errorf("%+v", f)
		}
	}
}

func TestInspectRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	testRelease(t, dir, "1.0.0", "boot", inspectTree(t))
	testRelease(t, dir, "1.1.0", "boot", testTree(t, 6, [2]string{"x", ""}))
	if _, stderr, code := ashlar(t, "inspect", dir); code != exitUsage || !strings.Contains(stderr, "1.0.0, 1.1.0") {
		t.Errorf("several releases: exit code %d, %s", code, stderr)
	}
	if _, stderr, code := ashlar(t, "inspect", dir+":2.0.0"); code != exitError || !strings.Contains(stderr, "2.0.0") {
		t.Errorf("no such release: exit code %d, %s", code, stderr)
	}
	if _, _, code := ashlar(t, "inspect", dir+":1.0.0"); code != exitOK {
		t.Errorf("exit code %d", code)
	}

	// One byte of any blob that is read, and nothing is shown at all.
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
	if err != nil || len(blobs) < 8 {
		t.Fatal(err, blobs)
	}
	refused := 0
	for _, name := range blobs {
		good, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(good)
		bad[len(bad)/2] ^= 1
		if err := os.WriteFile(name, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		out, stderr, code := ashlar(t, "inspect", dir+":1.0.0")
		switch {
		case code == exitError && out == "" && strings.Count(stderr, "\n") == 1:
			refused++
		case code != exitOK:
			t.Errorf("exit code %d: %s%s", code, out, stderr)
		}
		if err := os.WriteFile(name, good, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if refused != 5 { // index, artifact, document, image, software list
		t.Errorf("%d blobs are checked, want 5", refused)
	}
}
