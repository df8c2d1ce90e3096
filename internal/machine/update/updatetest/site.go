// Package updatetest plays both ends of an update for tests: a Site that
// publishes small releases, made of real images, packs and boot files and
// served by the embedded registry, and a Computer that boots what its disk
// says, read by other means than the code under test.
package updatetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/pack"
	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/esp/esptest"
	"github.com/ashlar-os/ashlar/internal/registry"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// Release is a release of a site, and what it was made from.
type Release struct {
	*release.Document
	UKI     []byte
	EROFS   []byte
	Objects map[verity.Digest][]byte
}

// Image is the digest of the release's image.
func (r *Release) Image() verity.Digest { return r.Document.Root().Digest }

// Site is a repository with releases, served over loopback.
type Site struct {
	Server     *registry.Server
	Repository string // HOST:PORT/acme/server
	Dir        string // the layout that is served
	Keys       *trust.Keyring
	Now        func() time.Time // its publisher's clock; nil: time.Now

	// Before, if set, sees every request before it is answered.
	Before func(*http.Request)
	// Instead, if set, may answer a request itself, and says whether it did: it
	// is whoever stands between machines and the site.
	Instead func(http.ResponseWriter, *http.Request) bool

	t      testing.TB
	layout *registry.Layout
	image  trust.Target // of the last release
	root   []byte       // in every image
}

// NewSite starts an empty site of the publisher that machines come with.
func NewSite(t testing.TB) *Site {
	t.Helper()
	return NewSiteOf(t, Acme())
}

// NewSiteOf starts an empty site of any publisher.
func NewSiteOf(t testing.TB, p *Publisher) *Site {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "site")
	layout, err := registry.CreateLayout(dir)
	must(t, err)
	server, err := registry.NewServer(dir, registry.ServerOptions{})
	must(t, err)
	s := &Site{t: t, Server: server, Dir: dir, layout: layout, Keys: p.Keyring(t), root: p.Root()}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.Before != nil {
			s.Before(r)
		}
		if s.Instead == nil || !s.Instead(w, r) {
			server.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(web.Close)
	_, port, err := net.SplitHostPort(web.Listener.Addr().String())
	must(t, err)
	s.Repository = "127.0.0.1:" + port + "/acme/server"
	return s
}

// Open opens the site as a machine does, but gives up quickly.
func (s *Site) Open() *registry.Repository {
	s.t.Helper()
	repo, _, err := registry.Open(s.Repository, registry.Options{Backoff: func(int) time.Duration { return time.Millisecond }})
	must(s.t, err)
	return repo
}

// Spec says what is in a release.
type Spec struct {
	Name, Version string
	Change        func(*release.Document) // before it is written; nil: nothing
	UKI           []byte                  // nil: one that boots the release's image
	Channels      []string                // nil: "stable"
	Large         int                     // bytes of noise in front of each file
	Unsigned      bool                    // its tags move, and nobody signs it
	Content       string                  // added to a file, so that the image is another one
	Tree          func(*tree.Tree)        // changes the image; nil: nothing
	Index         func([]byte) []byte     // changes the pack's index; nil: nothing
}

// Publish makes a release, signs it, and moves its channels to it. Three of four files
// are the same in every release of every site.
func (s *Site) Publish(spec Spec) *Release {
	s.t.Helper()
	if spec.Channels == nil {
		spec.Channels = []string{"stable"}
	}
	content := map[string][]byte{"os-release": []byte("IMAGE_ID=" + spec.Name + "\nIMAGE_VERSION=" + spec.Version + "\n")}
	for i := range 12 {
		seed := "common"
		if i%4 == 0 {
			seed = spec.Name + spec.Version
		}
		noise := make([]byte, spec.Large)
		rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, seed, i))).Read(noise)
		content[fmt.Sprintf("file%02d", i)] = append(noise, bytes.Repeat(fmt.Appendf(nil, "%s %d\n", seed, i), 300+i)...)
	}
	content["root.json"] = s.root
	content["file00"] = append(content["file00"], spec.Content...)
	rel := &Release{Objects: make(map[verity.Digest][]byte)}
	image := makeTree(content, rel.Objects)
	if spec.Tree != nil {
		spec.Tree(image)
	}
	var erofs, blob bytes.Buffer
	must(s.t, composefs.Write(&erofs, image, composefs.Options{}))
	packed, err := pack.Write(context.Background(), &blob, image, func(n *tree.Node) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content[n.Name])), nil
	}, pack.Options{})
	must(s.t, err)
	rel.EROFS = erofs.Bytes()
	digest := verity.SumBytes(rel.EROFS)
	rel.UKI = spec.UKI
	if rel.UKI == nil {
		rel.UKI = append(esptest.Release(spec.Name, spec.Version, digest), bytes.Repeat([]byte("kernel"), 3000)...)
	}
	index := packed.Index.Encode()
	if spec.Index != nil {
		index = spec.Index(index)
	}
	rest := []byte(spec.Name + spec.Version)
	rel.Document = &release.Document{
		Schema: release.Schema, ID: spec.Name + "-" + spec.Version, Name: spec.Name, Version: spec.Version,
		Architecture: runtime.GOARCH, Created: "2026-01-31T12:00:00Z",
		Images: []release.Image{{Role: release.RoleRoot, Digest: digest, Size: int64(len(rel.EROFS)), Objects: len(rel.Objects), Bytes: 1}},
		UKI:    sum(rel.UKI), Pack: sum(blob.Bytes()), PackIndex: sum(index), SBOM: sum(rest), Lock: sum(rest),
		RuleSet: release.RuleSet, Builder: "test",
	}
	if spec.Change != nil {
		spec.Change(rel.Document)
	}
	dir := s.t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		must(s.t, os.WriteFile(path, b, 0o600))
		return path
	}
	written, err := s.layout.WriteRelease(context.Background(), registry.ReleaseInput{
		Document: rel.Document, EROFS: write("erofs", rel.EROFS), UKI: write("uki", rel.UKI), Pack: write("pack", blob.Bytes()),
		DiffID: packed.DiffID, PackIndex: index, SBOM: rest, Lock: rest, Tags: spec.Channels,
	})
	must(s.t, err)
	if !spec.Unsigned {
		s.signRelease(written.Digest, spec.Channels)
	}
	return rel
}

// Point moves a channel back or forth to a version that was published.
func (s *Site) Point(channel, version string) {
	s.t.Helper()
	s.Sign(func(e *trust.Editor) error { return e.SetChannel(channel, version) })
}

func makeTree(content map[string][]byte, objects map[verity.Digest][]byte) *tree.Tree {
	dir := func(name string) *tree.Node { return &tree.Node{Name: name, Mode: tree.TypeDir | 0o755, Nlink: 1} }
	root := dir("")
	lib := dir("lib")
	usr := root.Add(dir("usr"))
	usr.Add(lib)
	usr.Add(dir("etc"))
	keys := lib.Add(dir("ashlar")).Add(dir("trust"))
	for name, b := range content {
		n := &tree.Node{Name: name, Mode: tree.TypeRegular | 0o644, Nlink: 1, Size: uint64(len(b))}
		if len(b) <= 64 {
			n.Inline = b
		} else {
			n.Digest = verity.SumBytes(b)
			n.Payload = composefs.ObjectPath(n.Digest)
			objects[n.Digest] = b
		}
		if name == "root.json" {
			keys.Add(n)
		} else {
			lib.Add(n)
		}
	}
	return &tree.Tree{Root: root}
}

func sum(b []byte) release.File {
	h := sha256.Sum256(b)
	return release.File{SHA256: hex.EncodeToString(h[:]), Size: int64(len(b))}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lines is for files of KEY=VALUE.
func lines(b []byte) map[string]string {
	m := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			m[key] = strings.Trim(value, `"`)
		}
	}
	return m
}
