package registry

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ask sends one request with the path exactly as given (no client cleans it).
func ask(t *testing.T, address, method, path string, header http.Header) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	must(t, err)
	defer conn.Close()
	req, err := http.NewRequest(method, "http://"+address+"/", nil)
	must(t, err)
	req.URL.Opaque = path
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := (&http.Transport{DisableKeepAlives: true, Dial: func(string, string) (net.Conn, error) { return conn, nil }}).RoundTrip(req)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp, string(body)
}

func TestServerProtocol(t *testing.T) {
	f := newFixture(t, "1.0.0", 1000).written(t, "", "stable")
	_, address := startServer(t, f.dir, ServerOptions{Repository: "acme/server"})
	const repo = "/v2/acme/server"
	pack := "/blobs/sha256:" + f.doc.Pack.SHA256
	none := strings.Repeat("0", 64)
	for _, c := range []struct {
		method, path string
		status       int
		body         string // contained in the answer
	}{
		{"GET", "/v2/", 200, "{}"},
		{"GET", "/v2", 200, "{}"},
		{"GET", "/", 404, ""},
		{"GET", repo + "/manifests/stable", 200, f.imageDigest},
		{"GET", repo + "/manifests/" + f.index.Digest.String(), 200, f.imageDigest},
		{"GET", repo + "/manifests/" + f.imageDigest, 200, f.doc.Pack.SHA256},
		{"GET", repo + "/manifests/testing", 404, "MANIFEST_UNKNOWN"},
		{"GET", repo + "/manifests/sha256:" + none, 404, "MANIFEST_UNKNOWN"},
		{"GET", repo + "/manifests/sha256:" + f.doc.Pack.SHA256, 404, "MANIFEST_UNKNOWN"}, // a blob, but no manifest
		{"GET", repo + "/manifests/sha256:../../oci-layout", 404, ""},
		{"GET", repo + "/manifests/sha512:" + none + none, 400, "MANIFEST_INVALID"},
		{"GET", repo + "/manifests/%2e%2e", 400, "MANIFEST_INVALID"},
		{"GET", repo + pack, 200, string(f.pack)},
		{"HEAD", repo + pack, 200, ""},
		{"GET", repo + "/blobs/sha256:" + none, 404, "BLOB_UNKNOWN"},
		{"GET", repo + "/blobs/sha256:", 400, "DIGEST_INVALID"},
		{"GET", repo + "/blobs/sha256:" + none[:63] + "/", 404, ""},
		{"GET", repo + "/blobs/..", 400, "DIGEST_INVALID"},
		{"GET", repo + "/blobs/%2e%2e%2f%2e%2e%2foci-layout", 404, ""},
		{"GET", repo + "/blobs/../../../oci-layout", 404, ""},
		{"GET", repo + "/tags/list", 200, `{"name":"acme/server","tags":["1.0.0","stable"]}`},
		{"GET", repo + "/tags/list?n=1", 200, `["1.0.0"]`},
		{"GET", repo + "/tags/list?n=1&last=1.0.0", 200, `["stable"]`},
		{"GET", repo + "/tags/list?n=0", 200, `[]`},
		{"GET", repo + "/tags/list?n=-1", 200, `["1.0.0","stable"]`},
		{"GET", "/v2/other/manifests/stable", 404, "NAME_UNKNOWN"},
		{"GET", "/v2/UPPER/manifests/stable", 400, "NAME_INVALID"},
		{"GET", "/v2//manifests/stable", 400, "NAME_INVALID"},
		{"GET", "/v2/a/../b/manifests/stable", 400, "NAME_INVALID"},
		{"POST", repo + "/blobs/uploads/", 405, "UNSUPPORTED"},
		{"PUT", repo + "/manifests/stable", 405, "UNSUPPORTED"},
		{"DELETE", repo + "/manifests/stable", 405, "UNSUPPORTED"},
	} {
		resp, body := ask(t, address, c.method, c.path, nil)
		if resp.StatusCode != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s %s: %s %q; want %d with %.80q", c.method, c.path, resp.Status, body, c.status, c.body)
		}
	}

	resp, body := ask(t, address, "GET", repo+pack, http.Header{"Range": {"bytes=10-19"}})
	if resp.StatusCode != 206 || body != string(f.pack[10:20]) || resp.Header.Get("Content-Range") != fmt.Sprintf("bytes 10-19/%d", len(f.pack)) {
		t.Errorf("range: %s %v %q", resp.Status, resp.Header, body)
	}
	if resp, _ := ask(t, address, "GET", repo+pack, http.Header{"Range": {"bytes=99999999-"}}); resp.StatusCode != 416 {
		t.Errorf("range past the end: %s", resp.Status)
	}
	resp, _ = ask(t, address, "HEAD", repo+"/manifests/stable", nil)
	if resp.Header.Get("Docker-Content-Digest") != f.index.Digest.String() || resp.ContentLength != f.index.Size {
		t.Errorf("HEAD of a manifest: %v", resp.Header)
	}
}

func TestReferrers(t *testing.T) {
	f := newFixture(t, "1.0.0", 1000).written(t, "", "stable")
	_, address := startServer(t, f.dir, ServerOptions{})
	list := func(path string) []ocispec.Descriptor {
		t.Helper()
		_, body := ask(t, address, "GET", path, nil)
		var index ocispec.Index
		must(t, json.Unmarshal([]byte(body), &index))
		return index.Manifests
	}
	path := "/v2/a/referrers/" + f.imageDigest
	for _, query := range []string{"", "?artifactType=" + strings.ReplaceAll(TypeRelease, "+", "%2B")} {
		got := list(path + query)
		if len(got) != 1 || got[0].Digest.String() != f.artifactDigest || got[0].ArtifactType != TypeRelease {
			t.Errorf("referrers%s: %+v", query, got)
		}
	}
	if got := list(path + "?artifactType=text/plain"); len(got) != 0 {
		t.Errorf("referrers of another type: %+v", got)
	}
	if got := list("/v2/a/referrers/" + f.artifactDigest); len(got) != 0 {
		t.Errorf("referrers of the artifact: %+v", got)
	}
	// A release that is written while the server runs is seen.
	second := newFixture(t, "2.0.0", 1000).written(t, f.dir, "stable")
	if got := list("/v2/a/referrers/" + second.imageDigest); len(got) != 1 {
		t.Errorf("referrers of the new image: %+v", got)
	}
	second.checkRelease(t, openTest(t, address+"/a"), "stable")
	f.checkRelease(t, openTest(t, address+"/a"), "1.0.0")
}

func TestServerCounts(t *testing.T) {
	f := newFixture(t, "1.0.0", 1<<20).written(t, "", "stable")
	var mu sync.Mutex
	var log []string
	server, address := startServer(t, f.dir, ServerOptions{Log: func(e LogEntry) {
		mu.Lock()
		defer mu.Unlock()
		log = append(log, fmt.Sprint(e.Method, " ", filepath.Base(e.Path), " ", e.Range, " ", e.Status, " ", e.Bytes))
	}})
	pack := "/v2/a/blobs/sha256:" + f.doc.Pack.SHA256
	ask(t, address, "HEAD", "/v2/a/manifests/stable", nil)
	ask(t, address, "GET", "/v2/a/manifests/stable", nil)
	ask(t, address, "GET", pack, nil)
	ask(t, address, "GET", pack, http.Header{"Range": {"bytes=0-999"}})
	resp, missing := ask(t, address, "GET", "/v2/a/manifests/none", nil)
	if resp.StatusCode != 404 {
		t.Errorf("got %s", resp.Status)
	}
	want := Stats{Requests: 5, Ranges: 1, Manifests: 3, Blobs: 2, Errors: 1, Bytes: f.index.Size + int64(len(f.pack)) + 1000 + int64(len(missing))}
	if got := server.Stats(); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if got := server.ResetStats(); got != want || server.Stats() != (Stats{}) {
		t.Errorf("reset gave %+v", got)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Contains(log, "GET sha256:"+f.doc.Pack.SHA256+" bytes=0-999 206 1000") || !slices.Contains(log, "HEAD stable  200 0") {
		t.Errorf("log %q", log)
	}
}

// TestServerFollowsNoFileOut: a blob that is a link, a directory or a pipe is not served.
func TestServerFollowsNoFileOut(t *testing.T) {
	f := newFixture(t, "1.0.0", 1000).written(t, "", "stable")
	_, address := startServer(t, f.dir, ServerOptions{})
	secret := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(secret, []byte("secret"), 0o600))
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	must(t, os.Symlink(secret, filepath.Join(f.dir, blobsDir, a)))
	must(t, os.Mkdir(filepath.Join(f.dir, blobsDir, b), 0o755))
	for _, name := range []string{a, b} {
		for _, kind := range []string{"blobs", "manifests"} {
			if resp, body := ask(t, address, "GET", "/v2/a/"+kind+"/sha256:"+name, nil); resp.StatusCode < 400 || strings.Contains(body, "secret") {
				t.Errorf("%s %s: %s %q", kind, name[:4], resp.Status, body)
			}
		}
	}
}
