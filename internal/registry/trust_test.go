package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// metadata is what a publisher writes for the nth time. It need not be signed:
// this package believes none of it.
func metadata(n int) map[string][]byte {
	files := make(map[string][]byte)
	for _, name := range []string{"%d.root.json", "%d.targets.json", "%d.channels.json", "%d.snapshot.json", "timestamp.json"} {
		if strings.Contains(name, "%d") {
			name = fmt.Sprintf(name, n)
		}
		files[name] = fmt.Appendf(nil, `{"signed":{"version":%d,"name":%q},"signatures":[%q]}`, n, name, strings.Repeat("0", 400))
	}
	return files
}

// checkTrust compares what r has with the newest files and the roots before.
func checkTrust(t *testing.T, r *Repository, newest map[string][]byte, roots ...[]byte) {
	t.Helper()
	ctx := context.Background()
	trust, err := r.ReadTrust(ctx)
	must(t, err)
	want := maps.Clone(newest)
	for i, root := range roots {
		want[fmt.Sprintf("%d.root.json", i+1)] = root
	}
	if got := trust.Names(); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Errorf("%s has %q", r.Name, got)
	}
	for name, b := range want {
		if got, err := trust.File(ctx, name, int64(len(b))); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%q from %s: %v", name, r.Name, err)
		}
	}
}

func TestTrust(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t, "1.0.0", 1000).written(t, "", "stable")
	layout := f.layout.Repository()
	server, address := startServer(t, f.dir, ServerOptions{})
	served := openTest(t, address+"/acme/server")
	for _, r := range []*Repository{layout, served} {
		_, err := r.ReadTrust(ctx)
		if want := `reading the signatures of ` + r.Name + `: it is not signed: it has no tag "ashlar-trust" (`; !errors.Is(err, ErrNoTrust) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("an unsigned repository: %v", err)
		}
	}
	must(t, layout.WriteTrust(ctx, metadata(1), nil))
	before, err := layout.ReadTrust(ctx)
	must(t, err)
	must(t, layout.WriteTrust(ctx, metadata(2), before))
	checkTrust(t, layout, metadata(2), metadata(1)["1.root.json"])
	checkTrust(t, served, metadata(2), metadata(1)["1.root.json"])

	// Only what is given anew replaces anything.
	before, err = layout.ReadTrust(ctx)
	must(t, err)
	fresh := map[string][]byte{"3.snapshot.json": []byte("{}"), "timestamp.json": []byte(`{"signed":{"version":3}}`)}
	must(t, layout.WriteTrust(ctx, fresh, before))
	want := metadata(2)
	delete(want, "2.snapshot.json")
	maps.Copy(want, fresh)
	checkTrust(t, served, want, metadata(1)["1.root.json"])

	// What a check needs that finds nothing new is one request of less than 10 KB.
	server.ResetStats()
	trust, err := served.ReadTrust(ctx)
	must(t, err)
	for _, name := range []string{"timestamp.json", "3.snapshot.json"} {
		_, err := trust.File(ctx, name, 64<<10)
		must(t, err)
	}
	if s := server.Stats(); s.Requests != 1 || s.Bytes > 10_000 {
		t.Errorf("a check with nothing new: %+v", s)
	}
	if _, err := trust.File(ctx, "3.targets.json", 1<<20); !errors.Is(err, ErrNoFile) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := trust.File(ctx, "2.targets.json", 100); err == nil || !strings.Contains(err.Error(), "the limit is 100") {
		t.Errorf("a file that is too large: %v", err)
	}

	// It is no release, and no channel.
	if tag, err := served.SoleRelease(ctx, ""); err != nil || tag != "1.0.0" {
		t.Errorf("the only release: %q, %v", tag, err)
	}
	if _, err := served.ReadRelease(ctx, TagTrust); err == nil {
		t.Error("the metadata is a release")
	}
	if _, err := PlanPublish(ctx, PublishOptions{From: layout, To: layout, Channel: TagTrust}); err == nil {
		t.Error("a channel may have the name of the metadata's tag")
	}
}

// TestTrustWrittenByTwo: who read before the other wrote is refused.
func TestTrustWrittenByTwo(t *testing.T) {
	ctx := context.Background()
	r, _, err := Open("oci:"+filepath.Join(t.TempDir(), "out"), Options{Create: true})
	must(t, err)
	must(t, r.WriteTrust(ctx, metadata(1), nil))
	before, err := r.ReadTrust(ctx)
	must(t, err)
	must(t, r.WriteTrust(ctx, metadata(2), before))
	var refused *RefusedError
	for _, previous := range []*Trust{nil, before} {
		if err := r.WriteTrust(ctx, metadata(3), previous); !errors.As(err, &refused) || !strings.Contains(err.Error(), "somebody else is publishing") {
			t.Errorf("got %v", err)
		}
	}
	checkTrust(t, r, metadata(2), metadata(1)["1.root.json"])
	for _, name := range []string{"../timestamp.json", "0.root.json", "x", "a/b.json", ".json", "Root.json"} {
		now, err := r.ReadTrust(ctx)
		must(t, err)
		if err := r.WriteTrust(ctx, map[string][]byte{name: []byte("{}")}, now); err == nil {
			t.Errorf("%q was written", name)
		}
	}
}

// TestTrustFollowsCopies: the metadata goes along with a release, and never
// replaces what is newer, or another publisher's.
func TestTrustFollowsCopies(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t, "1.0.0", 1000).written(t, "", "stable")
	src := f.layout.Repository()
	mirror := openTest(t, startDockerRegistry(t)+"/mirror/server")
	copied := func() {
		t.Helper()
		_, err := Copy(ctx, src, mirror, "1.0.0", "1.0.0", nil)
		must(t, err)
	}
	grow := func(r *Repository, files map[string][]byte) {
		t.Helper()
		before, err := r.ReadTrust(ctx)
		if err != nil && !errors.Is(err, ErrNoTrust) {
			t.Fatal(err)
		}
		must(t, r.WriteTrust(ctx, files, before))
	}
	copied()
	if _, err := mirror.ReadTrust(ctx); !errors.Is(err, ErrNoTrust) {
		t.Errorf("a copy of what is not signed: %v", err)
	}
	grow(src, metadata(1))
	copied()
	checkTrust(t, mirror, metadata(1))
	grow(src, metadata(2))
	copied()
	checkTrust(t, mirror, metadata(2), metadata(1)["1.root.json"])
	grow(mirror, map[string][]byte{"timestamp.json": []byte(`{"signed":{"version":9}}`)})
	copied()
	now, err := mirror.ReadTrust(ctx)
	must(t, err)
	if v, err := now.timestampVersion(ctx); v != 9 || err != nil {
		t.Errorf("a copy took the newer metadata back to version %d, %v", v, err)
	}
	grow(src, map[string][]byte{"1.root.json": []byte("another publisher's"), "timestamp.json": []byte(`{"signed":{"version":99}}`)})
	copied()
	if now, err = mirror.ReadTrust(ctx); err != nil || now.files["1.root.json"].Digest == digest.FromString("another publisher's") {
		t.Errorf("a copy replaced the metadata of another publisher: %v", err)
	}
}

// TestHostileTrust: a list of files is from anybody.
func TestHostileTrust(t *testing.T) {
	ctx := context.Background()
	body := []byte(`{"signed":{}}`)
	entry := func(name string, change func(d *ocispec.Descriptor)) ocispec.Descriptor {
		d := ocispec.Descriptor{
			MediaType: TypeMetadata, Digest: digest.FromBytes(body), Size: int64(len(body)),
			Annotations: map[string]string{ocispec.AnnotationTitle: name}}
		if change != nil {
			change(&d)
		}
		return d
	}
	good := entry("timestamp.json", func(d *ocispec.Descriptor) { d.Data = body })
	var many []ocispec.Descriptor
	for i := range maxLayers + 1 {
		many = append(many, entry(fmt.Sprintf("%d.root.json", i+1), nil))
	}
	for _, c := range []struct {
		name   string
		change func(m *ocispec.Manifest)
		want   string // "": read
	}{
		{"good", nil, ""},
		{"a type lost on the way", func(m *ocispec.Manifest) {
			m.ArtifactType, m.Annotations = "", map[string]string{annotationArtifact: TypeTrust}
		}, ""},
		{"a layer of something else", func(m *ocispec.Manifest) {
			m.Layers = append(m.Layers, entry("../x", func(d *ocispec.Descriptor) { d.MediaType = TypeSBOM }))
		}, ""},
		{"another artifact", func(m *ocispec.Manifest) { m.ArtifactType = TypeRelease },
			`field "artifactType" of tag "ashlar-trust" is "application/vnd.ashlar.release.v1+json", want "application/vnd.ashlar.trust.v1"`},
		{"a path", func(m *ocispec.Manifest) { m.Layers = append(m.Layers, entry("../../etc/passwd", nil)) },
			`field "layers[1]" of tag "ashlar-trust": "../../etc/passwd" cannot be the name of a file of metadata`},
		{"no name", func(m *ocispec.Manifest) { m.Layers[0].Annotations = nil }, `"" cannot be the name of a file of metadata`},
		{"twice", func(m *ocispec.Manifest) { m.Layers = append(m.Layers, entry("timestamp.json", nil)) }, `file "timestamp.json" is listed twice`},
		{"1 GB", func(m *ocispec.Manifest) {
			m.Layers = append(m.Layers, entry("1.root.json", func(d *ocispec.Descriptor) { d.Size = 1 << 30 }))
		}, `file "1.root.json" has 1073741824 bytes, the limit is 8388608`},
		{"other data", func(m *ocispec.Manifest) { m.Layers[0].Data = []byte(`{"signed":[]}`) }, `field "data" is not what its digest says`},
		{"longer data", func(m *ocispec.Manifest) { m.Layers[0].Data = append([]byte(" "), body...) }, `field "data" is not what its digest says`},
		{"many files", func(m *ocispec.Manifest) { m.Layers = many }, "lists 257 layers"},
		{"a digest that is none", func(m *ocispec.Manifest) { m.Layers[0].Digest = "sha256:../../x" }, "layers[0]"},
	} {
		m := ocispec.Manifest{
			MediaType: ocispec.MediaTypeImageManifest, ArtifactType: TypeTrust,
			Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{good}}
		m.SchemaVersion = 2
		if c.change != nil {
			c.change(&m)
		}
		manifest, err := json.Marshal(m)
		must(t, err)
		r, _ := hostile(t, Options{}, func(w http.ResponseWriter, r *http.Request) { w.Write(manifest) })
		trust, err := r.ReadTrust(ctx)
		switch {
		case c.want == "":
			if err != nil || !slices.Equal(trust.Names(), []string{"timestamp.json"}) {
				t.Errorf("%s: %v", c.name, err)
			}
		case err == nil || !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: %v", c.name, err)
		case errors.Is(err, ErrUnreachable), errors.Is(err, ErrNoTrust):
			t.Errorf("%s: it is none of that: %v", c.name, err)
		}
	}
}

// TestEndlessTrust: a list or a file without an end costs what its limit allows, and
// one that comes a byte at a time costs the time of a small request.
func TestEndlessTrust(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	flood := func(w http.ResponseWriter) (sent int64) {
		for chunk := make([]byte, 64<<10); sent < 1<<30; {
			n, err := w.Write(chunk)
			if sent += int64(n); err != nil {
				break
			}
		}
		return sent
	}
	sent := make(chan int64, 1)
	r, requests := hostile(t, Options{}, func(w http.ResponseWriter, r *http.Request) { sent <- flood(w) })
	if _, err := r.ReadTrust(ctx); err == nil || !strings.Contains(err.Error(), "larger than") || errors.Is(err, ErrUnreachable) {
		t.Errorf("an endless list: %v", err)
	}
	if n := <-sent; n > 64<<20 || requests.Load() != 1 {
		t.Errorf("an endless list cost %d bytes in %d requests", n, requests.Load())
	}
	body := []byte(`{"signed":{}}`)
	desc := ocispec.Descriptor{MediaType: TypeMetadata, Digest: digest.FromBytes(body), Size: int64(len(body))}
	_, manifest, err := trustManifest(map[string]ocispec.Descriptor{"2.targets.json": desc}, nil)
	must(t, err)
	r, _ = hostile(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			w.Write(body)
			sent <- flood(w)
			return
		}
		w.Write(manifest)
	})
	trust, err := r.ReadTrust(ctx)
	must(t, err)
	if b, err := trust.File(ctx, "2.targets.json", 1<<20); err != nil || !bytes.Equal(b, body) {
		t.Errorf("a file with more behind it: %q, %v", b, err)
	}
	if n := <-sent; n > 64<<20 {
		t.Errorf("an endless file cost %d bytes", n)
	}
	r, _ = hostile(t, Options{Request: 300 * time.Millisecond}, trickle)
	if _, err := r.ReadTrust(ctx); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "longer than 300ms") {
		t.Errorf("a trickled list: %v", err)
	}
}

// TestUnreachable tells who did not answer from who answered wrongly.
func TestUnreachable(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t, "1.0.0", 1000).written(t, "", "stable")
	own, err := NewServer(f.dir, ServerOptions{})
	must(t, err)
	answer := func(status int, text string) *Repository {
		r, _ := hostile(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			io.WriteString(w, text)
		})
		return r
	}
	address, o := front(t, own, "")
	noPassword := o
	noPassword.CredentialFiles = nil
	unknown := o
	unknown.TLS = &tls.Config{}
	for _, c := range []struct {
		name string
		r    *Repository
		want bool
	}{
		{"nobody listens", openTest(t, freeAddress(t)+"/a"), true},
		{"no such host", openTest(t, "host.invalid/a"), true},
		{"busy", answer(http.StatusServiceUnavailable, ""), true},
		{"too many requests", answer(http.StatusTooManyRequests, ""), true},
		{"forbidden", answer(http.StatusForbidden, ""), true},
		{"a password is wanted", overTLS(t, address, noPassword), true},
		{"an unknown certificate", overTLS(t, address, unknown), true},
		{"not there", answer(http.StatusNotFound, ""), false},
		{"a page of a hotel", answer(http.StatusOK, "<html>welcome</html>"), false},
		{"something else", answer(http.StatusOK, "{}"), false},
	} {
		if _, err := c.r.ReadTrust(ctx); err == nil || errors.Is(err, ErrUnreachable) != c.want {
			t.Errorf("%s: unreachable is not %v: %v", c.name, c.want, err)
		}
	}
	if _, _, err := Open("oci:"+filepath.Join(t.TempDir(), "no-disk"), Options{}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a directory that is not there: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := openTest(t, address+"/a").ReadTrust(ended); err == nil || errors.Is(err, ErrUnreachable) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestReleaseByArtifact: a release is found by what signed metadata says, whatever
// the tags say, in two requests.
func TestReleaseByArtifact(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t, "1.0.0", 1000).written(t, "", "stable")
	other := newFixture(t, "2.0.0", 1000).written(t, f.dir, "stable")
	server, address := startServer(t, f.dir, ServerOptions{})
	r := openTest(t, address+"/acme/server")
	rel, err := r.ReadReleaseArtifact(ctx, f.artifactDigest)
	must(t, err)
	if rel.Document.Version != "1.0.0" || rel.Image.Digest.String() != f.imageDigest || rel.Manifest.Digest.String() != f.artifactDigest {
		t.Errorf("got %s, %+v", rel.Document.ID, rel.Manifest)
	}
	if n := server.Stats().Requests; n != 2 {
		t.Errorf("%d requests", n)
	}
	if got, err := readAll(rel.OpenUKI(ctx)); err != nil || !bytes.Equal(got, f.uki) {
		t.Errorf("the boot file: %d bytes, %v", len(got), err)
	}
	for _, reference := range []string{"stable", "", "sha256:x", other.index.Digest.String(), f.imageDigest, "sha256:" + strings.Repeat("0", 64)} {
		if _, err := r.ReadReleaseArtifact(ctx, reference); err == nil {
			t.Errorf("%q is a release artifact", reference)
		}
	}
}
