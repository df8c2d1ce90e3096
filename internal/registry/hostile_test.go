package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Servers that do not break off but go on for ever, and such as give more than
// anyone asked for.

// hostile starts a server and opens a repository of it.
func hostile(t *testing.T, o Options, serve http.HandlerFunc) (*Repository, *atomic.Int64) {
	t.Helper()
	requests := new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		serve(w, r)
	}))
	t.Cleanup(s.Close)
	o.Stall, o.Backoff = patient, func(int) time.Duration { return time.Millisecond }
	r, _, err := Open(strings.TrimPrefix(s.URL, "http://")+"/a", o)
	must(t, err)
	return r, requests
}

// trickle sends a byte every few milliseconds until the client has had enough.
func trickle(w http.ResponseWriter, r *http.Request) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for r.Context().Err() == nil {
		<-tick.C
		if _, err := w.Write([]byte(" ")); err != nil {
			return
		}
		http.NewResponseController(w).Flush()
	}
}

func TestEndlessPagesOfTags(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	r, requests := hostile(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", `</v2/a/tags/list?last=x>; rel="next"`)
		io.WriteString(w, `{"tags":[]}`)
	})
	if _, err := r.Tags(ctx); err == nil || !strings.Contains(err.Error(), "pages") {
		t.Errorf("got %v", err)
	}
	if requests.Load() > maxTagPages+1 {
		t.Errorf("%d requests", requests.Load())
	}
}

// TestTagsAreChecked: tags are printed and put into other names.
func TestTagsAreChecked(t *testing.T) {
	names := []string{"stable", "a\x1b]0;pwned\a", "../x", "", "1.0.0", "a b", strings.Repeat("x", 129), "-x"}
	page, err := json.Marshal(map[string]any{"tags": names})
	must(t, err)
	served, _ := hostile(t, Options{}, func(w http.ResponseWriter, r *http.Request) { w.Write(page) })

	layout, err := CreateLayout(filepath.Join(t.TempDir(), "out"))
	must(t, err)
	index, err := layout.index()
	must(t, err)
	for _, name := range names {
		index.Manifests = append(index.Manifests, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString(""),
			Annotations: map[string]string{ocispec.AnnotationRefName: name}})
	}
	b, err := json.Marshal(index)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(layout.Dir(), indexFile), b, 0o600))

	for _, r := range []*Repository{served, layout.Repository()} {
		if got, err := r.Tags(context.Background()); err != nil || strings.Join(got, " ") != "1.0.0 stable" {
			t.Errorf("%s: %q, %v", r.Name, got, err)
		}
	}
}

// TestTrickledRequests: small requests end after a time in all, however busy the server seems.
func TestTrickledRequests(t *testing.T) {
	desc := ocispec.Descriptor{MediaType: TypeRelease, Digest: digest.FromString("x"), Size: 100_000}
	o := Options{Request: 300 * time.Millisecond}
	for name, ask := range map[string]func(context.Context, *Repository) error{
		"a manifest": func(ctx context.Context, r *Repository) error { _, _, err := r.Manifest(ctx, "stable"); return err },
		"tags":       func(ctx context.Context, r *Repository) error { _, err := r.Tags(ctx); return err },
		"a document": func(ctx context.Context, r *Repository) error {
			_, err := r.FetchBytes(ctx, desc, maxDocument)
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), patient)
		r, _ := hostile(t, o, trickle)
		if err := ask(ctx, r); err == nil || !strings.Contains(err.Error(), "longer than 300ms") {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}

// TestTrickledHead: a head that never ends is no answer.
func TestTrickledHead(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: ")
				for err == nil {
					_, err = io.WriteString(conn, "x")
					<-time.After(5 * time.Millisecond)
				}
			}()
		}
	}()
	r, _, err := Open(l.Addr().String()+"/a", Options{Stall: patient, Retries: -1, Request: 300 * time.Millisecond})
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	blob := ocispec.Descriptor{MediaType: TypeEROFS, Digest: digest.FromString("x"), Size: 100}
	if _, err := readAll(r.Fetch(ctx, blob)); err == nil || ctx.Err() != nil {
		t.Errorf("got %v", err)
	}
}

// TestTrickledBlob: an answer that brings too little is cut, and the rest asked for anew.
func TestTrickledBlob(t *testing.T) {
	f, address, _ := served(t)
	proxied, requests := startProxy(t, address, func(n int64, w http.ResponseWriter, r *http.Request, resp *http.Response) {
		pass(w, resp)
		if n == 1 {
			io.CopyN(w, resp.Body, 300_000)
			for r.Context().Err() == nil {
				if _, err := io.CopyN(w, resp.Body, 1); err != nil {
					return
				}
				http.NewResponseController(w).Flush()
				<-time.After(5 * time.Millisecond)
			}
			return
		}
		io.Copy(w, resp.Body)
	})
	r, _, err := Open(proxied+"/a", Options{Stall: patient, MinRate: 10_000, Window: 300 * time.Millisecond, Backoff: func(int) time.Duration { return 0 }})
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	pack := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerZstd, Digest: digest.FromBytes(f.pack), Size: int64(len(f.pack))}
	got, err := readAll(r.Fetch(ctx, pack))
	if err != nil || !bytes.Equal(got, f.pack) || requests.Load() < 2 {
		t.Errorf("%d bytes after %d requests, %v", len(got), requests.Load(), err)
	}
}

// TestSlowReaderIsNoSlowServer: time that the caller takes between reads does not count.
func TestSlowReaderIsNoSlowServer(t *testing.T) {
	f, address, _ := served(t)
	proxied, requests := startProxy(t, address, func(n int64, w http.ResponseWriter, r *http.Request, resp *http.Response) {
		pass(w, resp)
		io.Copy(w, resp.Body)
	})
	r, _, err := Open(proxied+"/a", Options{Stall: patient, MinRate: 1 << 40, Window: 2 * time.Second})
	must(t, err)
	pack := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerZstd, Digest: digest.FromBytes(f.pack), Size: int64(len(f.pack))}
	rc, err := r.FetchRange(context.Background(), pack, 0, 100)
	must(t, err)
	defer rc.Close()
	var one [1]byte
	for range 2 {
		_, err := rc.Read(one[:])
		must(t, err)
		<-time.After(2100 * time.Millisecond)
	}
	if rest, err := io.ReadAll(rc); err != nil || len(rest) != 98 || requests.Load() != 1 {
		t.Errorf("%d bytes, %v, %d requests", len(rest), err, requests.Load())
	}
}

// TestEndOfBlobIsNotAwaited: with the last byte here, nothing more is waited for.
func TestEndOfBlobIsNotAwaited(t *testing.T) {
	r, _ := hostile(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "content") // in chunks: the end is not known
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(context.Background(), patient/2)
	defer cancel()
	got, err := readAll(r.Fetch(ctx, ocispec.Descriptor{MediaType: TypeEROFS, Digest: digest.FromString("content"), Size: 7}))
	if err != nil || string(got) != "content" || ctx.Err() != nil {
		t.Errorf("%q, %v; the context: %v", got, err, ctx.Err())
	}
}

// TestConnectionsAreKept: reading to the end leaves the connection for the next request.
func TestConnectionsAreKept(t *testing.T) {
	f := newFixture(t, "1.0.0", 100_000).written(t, "", "stable")
	own, err := NewServer(f.dir, ServerOptions{})
	must(t, err)
	var connections atomic.Int64
	s := httptest.NewUnstartedServer(own)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	r := openTest(t, strings.TrimPrefix(s.URL, "http://")+"/a")
	rel, err := r.ReadRelease(context.Background(), "stable")
	must(t, err)
	for i := range int64(20) {
		_, err := readAll(r.FetchRange(context.Background(), rel.Pack, i*1000, 1000))
		must(t, err)
	}
	if connections.Load() != 1 {
		t.Errorf("%d connections", connections.Load())
	}
}

// TestPasswordsStayInTLS: a registry behind TLS cannot send its clients on to
// plain HTTP, for a token or for more tags.
func TestPasswordsStayInTLS(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("asked over plain HTTP for %s, with Authorization %q", r.URL, r.Header.Get("Authorization"))
		io.WriteString(w, `{"token":"x","tags":[]}`)
	}))
	defer plain.Close()
	protected := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/tags/list") {
			w.Header().Set("Link", fmt.Sprintf(`<%s/v2/a/tags/list>; rel="next"`, plain.URL))
			io.WriteString(w, `{"tags":[]}`)
			return
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="x"`, plain.URL))
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer protected.Close()
	roots := x509.NewCertPool()
	roots.AddCert(protected.Certificate())
	address := strings.TrimPrefix(protected.URL, "https://")
	r := overTLS(t, address, Options{
		TLS:             &tls.Config{RootCAs: roots},
		CredentialFiles: []string{passwordFile(t, address, "machine", "swordfish")},
		Backoff: func(int) time.Duration {
			t.Error("asked again")
			return 0
		},
	})
	if _, err := r.Tags(context.Background()); !errors.Is(err, errUnprotected) {
		t.Errorf("more tags: %v", err)
	}
	if _, err := r.Resolve(context.Background(), "stable"); !errors.Is(err, errUnprotected) {
		t.Errorf("a token: %v", err)
	}
}

// TestCopyIsBounded: what a source lists may not fill the memory, nor take requests without end.
func TestCopyIsBounded(t *testing.T) {
	for name, pad := range map[string]int{"large": 1 << 20, "many": 0} {
		bodies := map[digest.Digest][]byte{}
		put := func(name string, pad int, children []ocispec.Descriptor) ocispec.Descriptor {
			index := emptyIndex()
			index.Manifests = children
			index.Annotations = map[string]string{name: strings.Repeat("x", pad)}
			b, err := json.Marshal(index)
			must(t, err)
			d := digest.FromBytes(b)
			bodies[d] = b
			return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: d, Size: int64(len(b))}
		}
		var middle []ocispec.Descriptor
		for i := range 20 {
			var leaves []ocispec.Descriptor
			for k := range 20 {
				leaves = append(leaves, put(fmt.Sprint(i, " ", k), 0, nil))
			}
			middle = append(middle, put(fmt.Sprint(i), pad, leaves))
		}
		root := put("root", 0, middle)
		var sent atomic.Int64
		src, requests := hostile(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
			b := bodies[digest.Digest(r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])]
			sent.Add(int64(len(b)))
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			w.Write(b)
		})
		dst, err := CreateLayout(filepath.Join(t.TempDir(), "dst"))
		must(t, err)
		_, err = Copy(context.Background(), src, dst.Repository(), root.Digest.String(), "stable", nil)
		if err == nil || !strings.Contains(err.Error(), "limit") {
			t.Errorf("%s: %v", name, err)
		}
		if sent.Load() > maxCopyBytes || requests.Load() > maxCopyManifests {
			t.Errorf("%s: %d bytes in %d requests", name, sent.Load(), requests.Load())
		}
	}
}

// TestVersionTagIsChecked: who asks for 2.0.0 does not get 1.0.0.
func TestVersionTagIsChecked(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t, "1.0.0~rc1", 1000).written(t, "", "stable")
	r := f.layout.Repository()
	must(t, r.Tag(ctx, f.index, "2.0.0"))
	for _, tag := range []string{"1.0.0_rc1", "stable", f.index.Digest.String()} {
		_, err := r.ReadRelease(ctx, tag)
		must(t, err)
	}
	if _, err := r.ReadRelease(ctx, "2.0.0"); err == nil || !strings.Contains(err.Error(), `version "1.0.0~rc1"`) {
		t.Errorf("got %v", err)
	}
}

// TestSoleReleaseAsksLittle: many tags do not make many requests.
func TestSoleReleaseAsksLittle(t *testing.T) {
	for name, format := range map[string]string{"versions": "%d.0.0", "channels": "channel-%d"} {
		var tags []string
		for i := range 5000 {
			tags = append(tags, fmt.Sprintf(format, i))
		}
		page, err := json.Marshal(map[string]any{"tags": tags})
		must(t, err)
		r, requests := hostile(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/tags/list") {
				w.Write(page)
				return
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			io.WriteString(w, `{"schemaVersion":2,"manifests":[]}`)
		})
		var refused *RefusedError
		if _, err := r.SoleRelease(context.Background(), ""); !errors.As(err, &refused) || len(err.Error()) > 500 {
			t.Errorf("%s: %v", name, err)
		}
		if requests.Load() > 1+maxSoleTags {
			t.Errorf("%s: %d requests", name, requests.Load())
		}
	}
}
