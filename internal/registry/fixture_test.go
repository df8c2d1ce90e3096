package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// fixture is one release, and the plain bytes it was written from.
type fixture struct {
	doc                         *release.Document
	erofs, uki, pack            []byte
	packIndex, sbom, lock       []byte
	diffID                      string
	files                       map[string]string // in the layer
	index                       ocispec.Descriptor
	dir                         string
	layout                      *Layout
	imageDigest, artifactDigest string
}

// noise gives n bytes that hardly compress, the same for the same seed.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	rand.NewChaCha8(key).Read(b)
	return b
}

func sum(b []byte) release.File {
	s := sha256.Sum256(b)
	return release.File{SHA256: hex.EncodeToString(s[:]), Size: int64(len(b))}
}

// newFixture makes the content of a release; packSize is about the size of its layer.
func newFixture(t testing.TB, version string, packSize int) *fixture {
	t.Helper()
	f := &fixture{
		erofs:     noise(1, 300_000),
		uki:       append(noise(2, 200_000), make([]byte, 100_000)...),
		packIndex: []byte("index of " + version),
		sbom:      []byte(`{"spdxVersion":"SPDX-2.3"}`),
		lock:      []byte("version = 1\n"),
		files: map[string]string{
			"usr/lib/os-release": "ID=ashlar\nVERSION_ID=" + version + "\n",
			"usr/share/big":      string(noise(3, packSize)),
		},
	}
	f.erofs = append(f.erofs, version...)
	var plain, packed bytes.Buffer
	w := tar.NewWriter(&plain)
	for _, h := range []tar.Header{
		{Name: "usr/", Mode: 0o755, Typeflag: tar.TypeDir},
		{Name: "usr/lib/", Mode: 0o755, Typeflag: tar.TypeDir},
		{Name: "usr/lib/os-release", Mode: 0o644, Typeflag: tar.TypeReg},
		{Name: "usr/share/", Mode: 0o755, Typeflag: tar.TypeDir},
		{Name: "usr/share/big", Mode: 0o644, Typeflag: tar.TypeReg},
		{Name: "etc", Linkname: "usr/lib", Mode: 0o777, Typeflag: tar.TypeSymlink},
	} {
		h.Size = int64(len(f.files[h.Name]))
		must(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, f.files[h.Name])
		must(t, err)
	}
	must(t, w.Close())
	z, err := zstd.NewWriter(&packed)
	must(t, err)
	_, err = z.Write(plain.Bytes())
	must(t, err)
	must(t, z.Close())
	f.pack = packed.Bytes()
	f.diffID = "sha256:" + sum(plain.Bytes()).SHA256
	f.doc = &release.Document{
		Schema: release.Schema, ID: "server-" + version, Name: "server", Version: version,
		Architecture: "amd64", Created: "2026-01-31T12:00:00Z",
		Images: []release.Image{{
			Role: release.RoleRoot, Digest: verity.SumBytes(f.erofs), Size: int64(len(f.erofs)), Objects: 1, Bytes: int64(packSize),
		}},
		UKI: sum(f.uki), Pack: sum(f.pack), PackIndex: sum(f.packIndex), SBOM: sum(f.sbom), Lock: sum(f.lock),
		RuleSet: release.RuleSet, Users: map[string]uint32{"root": 0}, Groups: map[string]uint32{"root": 0},
		Builder: "ashlar test",
	}
	return f
}

// input writes the fixture's files and says where they are.
func (f *fixture) input(t testing.TB, tags ...string) ReleaseInput {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, b, 0o600))
		return path
	}
	return ReleaseInput{
		Document: f.doc, EROFS: write("erofs", f.erofs), UKI: write("uki", f.uki), Pack: write("pack", f.pack),
		DiffID: f.diffID, PackIndex: f.packIndex, SBOM: f.sbom, Lock: f.lock,
		Labels: map[string]string{"org.ashlar.test": "yes"}, Tags: tags,
	}
}

// written writes the fixture into a layout of its own, or into dir.
func (f *fixture) written(t testing.TB, dir string, tags ...string) *fixture {
	t.Helper()
	if dir == "" {
		dir = filepath.Join(t.TempDir(), "out")
	}
	var err error
	f.dir = dir
	f.layout, err = CreateLayout(dir)
	must(t, err)
	f.index, err = f.layout.WriteRelease(context.Background(), f.input(t, tags...))
	must(t, err)
	rel, err := f.layout.Repository().ReadRelease(context.Background(), f.index.Digest.String())
	must(t, err)
	f.imageDigest, f.artifactDigest = rel.Image.Digest.String(), rel.Manifest.Digest.String()
	return f
}

// checkRelease reads a release from r and compares every byte.
func (f *fixture) checkRelease(t testing.TB, r *Repository, tag string) {
	t.Helper()
	ctx := context.Background()
	rel, err := r.ReadRelease(ctx, tag)
	must(t, err)
	if rel.Index.Digest != f.index.Digest {
		t.Errorf("tag %q of %s names %s, want %s", tag, r.Name, rel.Index.Digest, f.index.Digest)
	}
	for _, c := range []struct {
		what string
		open func(context.Context) (io.ReadCloser, error)
		want []byte
	}{
		{"EROFS", rel.OpenEROFS, f.erofs}, {"UKI", rel.OpenUKI, f.uki}, {"pack", rel.OpenPack, f.pack},
		{"pack index", rel.OpenPackIndex, f.packIndex}, {"SBOM", rel.OpenSBOM, f.sbom}, {"lock", rel.OpenLock, f.lock},
	} {
		rc, err := c.open(ctx)
		must(t, err)
		got, err := io.ReadAll(rc)
		rc.Close()
		if err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s from %s: %d bytes, %v; want %d bytes", c.what, r.Name, len(got), err, len(c.want))
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openTest opens ref with short pauses, so that faults take no time.
func openTest(t testing.TB, ref string) *Repository {
	t.Helper()
	r, _, err := Open(ref, Options{Stall: patient, Backoff: func(int) time.Duration { return time.Millisecond }})
	must(t, err)
	return r
}

// run runs a program of Debian's and returns its output.
func run(t testing.TB, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, stderr.Bytes())
	}
	return string(out)
}

// startDockerRegistry starts Debian's docker-registry (CNCF Distribution), with
// more lines of configuration, and returns HOST:PORT.
func startDockerRegistry(t testing.TB, more ...string) string {
	t.Helper()
	dir := t.TempDir()
	address := freeAddress(t)
	config := fmt.Sprintf("version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: %s\nhttp:\n  addr: %s\n", filepath.Join(dir, "data"), address)
	config += strings.Join(more, "")
	name := filepath.Join(dir, "config.yml")
	must(t, os.WriteFile(name, []byte(config), 0o600))
	cmd := exec.Command("docker-registry", "serve", name)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (apt-get install docker-registry)", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	for {
		resp, err := http.Get("http://" + address + "/v2/")
		if err == nil {
			resp.Body.Close()
			return address
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("docker-registry ended: %v\n%s", err, output.Bytes())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// startServer serves dir with our own server.
func startServer(t testing.TB, dir string, o ServerOptions) (*Server, string) {
	t.Helper()
	s, err := NewServer(dir, o)
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, l.Addr().String()
}
