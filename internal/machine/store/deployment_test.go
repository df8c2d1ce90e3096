package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

func deployment(version string, image verity.Digest) *Deployment {
	return &Deployment{
		Schema: Schema, Image: image, Name: "server", Version: version,
		Release: "sha256:" + strings.Repeat("ab", 32),
		Origin:  Origin{Repository: "registry.example/acme/server", Channel: "stable"},
		Created: "2026-01-02T03:04:05Z",
	}
}

func TestDeployments(t *testing.T) {
	s := newStore(t)
	for version, d := range map[string]verity.Digest{"1.9": {1}, "1.10": {2}, "1.10~rc1": {3}} {
		if err := s.WriteDeployment(deployment(version, d)); err != nil {
			t.Fatal(err)
		}
	}
	// What others left there is named and left alone.
	broken := verity.Digest{4}
	files := map[string]string{
		"deployments/notes.txt":                               "x",
		"deployments/" + broken.String() + "/deployment.json": `{"schema": 2}`,
		"images/lost+found/x":                                 "x",
		"images/" + verity.Digest{1}.String():                 "not looked at here",
	}
	for name, c := range files {
		path := filepath.Join(s.Dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(c), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	v, err := s.Survey()
	if err != nil {
		t.Fatal(err)
	}
	var versions []string
	for _, d := range v.Deployments {
		versions = append(versions, d.Version)
	}
	if !slices.Equal(versions, []string{"1.10", "1.10~rc1", "1.9"}) {
		t.Errorf("versions in the order %q", versions)
	}
	if len(v.Broken) != 1 || v.Broken[0].Image != broken || !strings.Contains(v.Broken[0].Err.Error(), `field "schema"`) {
		t.Errorf("broken: %v", v.Broken)
	}
	if !slices.Equal(v.Images, []verity.Digest{{1}}) {
		t.Errorf("images: %v", v.Images)
	}
}

func TestWriteAndRemoveDeployment(t *testing.T) {
	s := newStore(t)
	d := deployment("1.0", verity.Digest{7})
	if err := s.WriteDeployment(d); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.DeploymentPath(d.Image), "etc.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.Pinned, d.GoodBootsSeq = true, 3
	if err := s.WriteDeployment(d); err != nil {
		t.Fatal(err)
	}
	got, err := s.Deployment(d.Image)
	if err != nil || *got != *d {
		t.Errorf("read %+v, %v, want %+v", got, err, d)
	}
	if _, err := os.Stat(s.EtcReport(d.Image)); err != nil {
		t.Errorf("writing again lost another file: %v", err)
	}
	for range 2 { // removing what is not there is fine
		if err := s.RemoveDeployment(d.Image); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Deployment(d.Image); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after removal: %v", err)
	}
	assertNoTmp(t, s)
}

func TestDecodeDeploymentNamesTheField(t *testing.T) {
	good, err := deployment("1.0", verity.Digest{7}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{`"schema": 1`, `"schema": 2`, `field "schema"`},
		{`"name": "server"`, `"name": ""`, `field "name"`},
		{`"name": "server"`, `"name": "a b"`, `field "name"`},
		{`"name": "server"`, `"name": "` + strings.Repeat("x", 600) + `"`, `field "name"`},
		{`"version": "1.0"`, `"version": "1\u0000"`, `field "version"`},
		{`"sha256:`, `"md5:`, `field "release"`},
		{`"sha256:ab`, `"sha256:AB`, `field "release"`},
		{`"etc_from": ""`, `"etc_from": "x"`, `field "etc_from"`},
		{`"good_boots_seq": 0`, `"good_boots_seq": -1`, `field "good_boots_seq"`},
		{`"created": "2026`, `"created": "yesterday`, `field "created"`},
		{`"pinned": false`, `"pinned": false, "extra": 1`, `"extra"`},
		{`"image": "0700`, `"image": "070`, `digest`},
		{"\n}\n", "\n} {}", "more follows"},
	} {
		bad := strings.Replace(string(good), c.old, c.new, 1)
		if bad == string(good) {
			t.Fatalf("%q is not in the sample", c.old)
		}
		if _, err := DecodeDeployment([]byte(bad)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("with %s: %v, want %s", c.new, err, c.want)
		}
	}
	if _, err := DecodeDeployment(make([]byte, maxDeployment+1)); err == nil {
		t.Error("accepted a document without limit")
	}
}

func FuzzDecodeDeployment(f *testing.F) {
	good, err := deployment("1.0", verity.Digest{7}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"schema":1,"image":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := DecodeDeployment(b)
		if err != nil {
			return
		}
		again, err := d.Encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if e, err := DecodeDeployment(again); err != nil || *e != *d {
			t.Fatalf("written and read again: %+v, %v, want %+v", e, err, d)
		}
	})
}

// TestDocument: the release document beside a deployment is the one that its
// deployment.json names, or none.
func TestDocument(t *testing.T) {
	s := newStore(t)
	doc := release.Document{
		Schema: release.Schema, ID: "server-1.0", Name: "server", Version: "1.0", Architecture: "amd64",
		Created: "2025-09-01T00:00:00Z", RuleSet: release.RuleSet, Builder: "ashlar 1",
		Images: []release.Image{{Role: release.RoleRoot, Digest: verity.Digest{7}, Size: 4096}},
	}
	for _, f := range []*release.File{&doc.UKI, &doc.Pack, &doc.PackIndex, &doc.SBOM, &doc.Lock} {
		*f = release.File{SHA256: strings.Repeat("a", 64), Size: 1}
	}
	b, err := doc.Encode()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	d := deployment("1.0", verity.Digest{7})
	d.Release = "sha256:" + hex.EncodeToString(sum[:])
	if err := s.WriteDeployment(d); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Document(d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a document: %v", err)
	}
	if err := s.WriteDocument(d.Image, b); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Document(d); err != nil || got.UKI != doc.UKI {
		t.Errorf("read %+v, %v", got, err)
	}
	if err := s.WriteDocument(d.Image, bytes.Replace(b, []byte("1.0"), []byte("1.1"), 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Document(d); err == nil || !strings.Contains(err.Error(), `which "deployment.json" names`) {
		t.Errorf("another document: %v", err)
	}
	assertNoTmp(t, s)
}
