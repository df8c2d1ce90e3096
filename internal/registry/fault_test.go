package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A proxy between client and server that breaks things on the wire.

// fault handles one answer of the upstream server on its way to the client;
// n counts the requests for blobs from 1.
type fault func(n int64, w http.ResponseWriter, r *http.Request, answer *http.Response)

// startProxy forwards everything to address, blobs through f.
func startProxy(t *testing.T, address string, f fault) (proxied string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		up, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+address+r.URL.String(), r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		up.Header = r.Header.Clone()
		resp, err := http.DefaultTransport.RoundTrip(up)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer resp.Body.Close()
		if strings.Contains(r.URL.Path, "/blobs/") {
			f(requests.Add(1), w, r, resp)
			return
		}
		pass(w, resp)
		io.Copy(w, resp.Body)
	}))
	t.Cleanup(p.Close)
	return strings.TrimPrefix(p.URL, "http://"), requests
}

// pass sends the head of an answer on.
func pass(w http.ResponseWriter, resp *http.Response) {
	for k, v := range resp.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(resp.StatusCode)
}

// cut sends n bytes of an answer and closes the connection.
func cut(w http.ResponseWriter, resp *http.Response, n int64) {
	pass(w, resp)
	io.CopyN(w, resp.Body, n)
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// patient is a stall that no test waits for, however busy the machine.
const patient = 30 * time.Second

// served is a release behind our own server.
func served(t *testing.T) (f *fixture, address string, rel func(proxied string, stall time.Duration) *Release) {
	f = newFixture(t, "1.0.0", 3<<20).written(t, "", "stable")
	_, address = startServer(t, f.dir, ServerOptions{})
	return f, address, func(proxied string, stall time.Duration) *Release {
		t.Helper()
		r, _, err := Open(proxied+"/a", Options{Stall: stall, Retries: 4, Backoff: func(int) time.Duration { return time.Millisecond }})
		must(t, err)
		// The document comes straight from the server: the fault is for the pack.
		direct, err := openTest(t, address+"/a").ReadRelease(context.Background(), "stable")
		must(t, err)
		direct.repo = r
		return direct
	}
}

func readAll(rc io.ReadCloser, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

func TestFetchResumesAfterCuts(t *testing.T) {
	f, address, rel := served(t)
	var asked []string
	var mu sync.Mutex
	proxied, requests := startProxy(t, address, func(n int64, w http.ResponseWriter, r *http.Request, resp *http.Response) {
		mu.Lock()
		asked = append(asked, r.Header.Get("Range"))
		mu.Unlock()
		cut(w, resp, 1_000_000) // each answer, so that four are needed
	})
	got, err := readAll(rel(proxied, patient).OpenPack(context.Background()))
	if err != nil || !bytes.Equal(got, f.pack) {
		t.Fatalf("got %d bytes, %v; want %d", len(got), err, len(f.pack))
	}
	if requests.Load() != 4 {
		t.Errorf("%d requests: %q", requests.Load(), asked)
	}
	if want := fmt.Sprintf("bytes=1000000-%d", len(f.pack)-1); asked[0] != "" || asked[1] != want {
		t.Errorf("asked for %q, want none and then %q", asked, want)
	}
}

func TestRangesResumeInside(t *testing.T) {
	f, address, rel := served(t)
	proxied, _ := startProxy(t, address, func(n int64, w http.ResponseWriter, r *http.Request, resp *http.Response) {
		if n%3 != 0 {
			cut(w, resp, 90_000)
		}
		pass(w, resp)
		io.Copy(w, resp.Body)
	})
	release := rel(proxied, patient)
	ranges := []Range{{0, 1}, {100, 400_000}, {int64(len(f.pack)) - 7, 7}, {500_000, 1_500_000}, {2_000_000, 65_536}}
	var mu sync.Mutex
	got := make([][]byte, len(ranges))
	err := release.repo.FetchRanges(context.Background(), release.Pack, ranges, 3, func(i int, r io.Reader) error {
		b, err := io.ReadAll(r)
		mu.Lock()
		defer mu.Unlock()
		got[i] = b
		return err
	})
	must(t, err)
	for i, rg := range ranges {
		if !bytes.Equal(got[i], f.pack[rg.Offset:rg.Offset+rg.Length]) {
			t.Errorf("range %+v: got %d other bytes", rg, len(got[i]))
		}
	}
}

func TestStallIsACut(t *testing.T) {
	f, address, rel := served(t)
	proxied, requests := startProxy(t, address, func(n int64, w http.ResponseWriter, r *http.Request, resp *http.Response) {
		pass(w, resp)
		if n == 1 {
			io.CopyN(w, resp.Body, 300_000)
			http.NewResponseController(w).Flush()
			<-r.Context().Done() // until the client gives up
			return
		}
		io.Copy(w, resp.Body)
	})
	got, err := readAll(rel(proxied, time.Second).OpenPack(context.Background()))
	if err != nil || !bytes.Equal(got, f.pack) || requests.Load() < 2 {
		t.Errorf("got %d bytes after %d requests, %v; want %d after a second one", len(got), requests.Load(), err, len(f.pack))
	}
}

func TestRetriesAreBounded(t *testing.T) {
	_, address, rel := served(t)
	proxied, requests := startProxy(t, address, func(n int64, w http.ResponseWriter, r *http.Request, resp *http.Response) {
		cut(w, resp, 1) // progress, but too little to count
	})
	_, err := readAll(rel(proxied, patient).OpenPack(context.Background()))
	if !errors.Is(err, io.ErrUnexpectedEOF) || requests.Load() != 5 || !strings.Contains(err.Error(), "tried 5 times") {
		t.Errorf("%d requests, %v; want 5", requests.Load(), err)
	}
}

func TestCancelEndsRetrying(t *testing.T) {
	_, address, rel := served(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("enough")
	proxied, _ := startProxy(t, address, func(n int64, w http.ResponseWriter, r *http.Request, resp *http.Response) {
		cancel(why)
		cut(w, resp, 1)
	})
	if _, err := readAll(rel(proxied, patient).OpenPack(ctx)); !errors.Is(err, why) && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestBusyServerIsAskedAgain(t *testing.T) {
	f, address, rel := served(t)
	for _, status := range []int{http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusBadGateway} {
		proxied, requests := startProxy(t, address, func(n int64, w http.ResponseWriter, r *http.Request, resp *http.Response) {
			if n < 3 {
				w.Header().Set("Retry-After", "0")
				http.Error(w, "later", status)
				return
			}
			pass(w, resp)
			io.Copy(w, resp.Body)
		})
		got, err := readAll(rel(proxied, patient).OpenPack(context.Background()))
		if err != nil || !bytes.Equal(got, f.pack) || requests.Load() != 3 {
			t.Errorf("%d: got %d bytes after %d requests, %v", status, len(got), requests.Load(), err)
		}
	}
}

// TestWrongAnswers: answers that no number of attempts makes right are refused at once.
func TestWrongAnswers(t *testing.T) {
	f, address, rel := served(t)
	size := int64(len(f.pack))
	shifted := func(shift int64) fault {
		return func(n int64, w http.ResponseWriter, r *http.Request, resp *http.Response) {
			first, last, total, _ := parseContentRange(resp.Header.Get("Content-Range"))
			resp.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first+shift, last+shift, total))
			pass(w, resp)
			io.Copy(w, resp.Body)
		}
	}
	contentRange := func(text string) fault {
		return func(n int64, w http.ResponseWriter, r *http.Request, resp *http.Response) {
			resp.Header.Set("Content-Range", text)
			pass(w, resp)
			io.Copy(w, resp.Body)
		}
	}
	endless := func(status int) fault {
		return func(n int64, w http.ResponseWriter, r *http.Request, resp *http.Response) {
			resp.Header.Del("Content-Length")
			w.Header().Set("Content-Range", resp.Header.Get("Content-Range"))
			w.WriteHeader(status)
			io.Copy(w, resp.Body)
			for {
				if _, err := w.Write(make([]byte, 32<<10)); err != nil {
					return
				}
			}
		}
	}
	whole := func(ctx context.Context, rel *Release) ([]byte, error) { return readAll(rel.OpenPack(ctx)) }
	part := func(ctx context.Context, rel *Release) ([]byte, error) {
		return readAll(rel.repo.FetchRange(ctx, rel.Pack, 1000, 500_000))
	}
	for _, c := range []struct {
		name string
		read func(context.Context, *Release) ([]byte, error)
		f    fault
		want string // in the error; "": works, as the excess is not read
	}{
		{"a byte flipped", whole, func(n int64, w http.ResponseWriter, r *http.Request, resp *http.Response) {
			pass(w, resp)
			b, _ := io.ReadAll(resp.Body)
			b[len(b)/2] ^= 1
			w.Write(b)
		}, "damaged"},
		{"other content, other length", whole, func(n int64, w http.ResponseWriter, r *http.Request, resp *http.Response) {
			io.WriteString(w, "something else")
		}, "should have"},
		{"an endless body", whole, endless(200), ""},
		{"an endless range", part, endless(206), ""},
		{"200 for a range", part, func(n int64, w http.ResponseWriter, r *http.Request, resp *http.Response) {
			w.Write(f.pack)
		}, "does not support range requests"},
		{"a shifted range", part, shifted(1), "with the range"},
		{"an earlier range", part, shifted(-1), "with the range"},
		{"another total", part, contentRange(fmt.Sprintf("bytes 1000-500999/%d", size+1)), "with the range"},
		{"no Content-Range", part, contentRange(""), "with the range"},
		{"a wild Content-Range", part, contentRange("bytes 99999999999999999999-2/*"), "with the range"},
		{"another unit", part, contentRange("pages 1000-500999/*"), "with the range"},
		{"a shorter body", part, func(n int64, w http.ResponseWriter, r *http.Request, resp *http.Response) {
			resp.Header.Set("Content-Length", "10")
			pass(w, resp)
			io.CopyN(w, resp.Body, 10)
		}, "announces 10 bytes"},
		{"not found", part, func(n int64, w http.ResponseWriter, r *http.Request, resp *http.Response) {
			http.NotFound(w, r)
		}, "not found"},
		{"forbidden, with a long answer", part, func(n int64, w http.ResponseWriter, r *http.Request, resp *http.Response) {
			w.WriteHeader(http.StatusForbidden)
			for {
				if _, err := io.WriteString(w, "go away "); err != nil {
					return
				}
			}
		}, "403 Forbidden"},
	} {
		t.Run(c.name, func(t *testing.T) {
			proxied, requests := startProxy(t, address, c.f)
			got, err := c.read(context.Background(), rel(proxied, patient))
			switch {
			case c.want == "":
				if err != nil || !bytes.Contains(f.pack, got) || len(got) == 0 {
					t.Errorf("got %d bytes, %v", len(got), err)
				}
			case err == nil || !strings.Contains(err.Error(), c.want):
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if requests.Load() != 1 {
				t.Errorf("%d requests, want 1", requests.Load())
			}
			if len(err2text(err)) > 1000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func err2text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestPushIsRepeated: a registry that drops an upload gets it again.
func TestPushIsRepeated(t *testing.T) {
	f := newFixture(t, "1.0.0", 1<<20).written(t, "")
	address := startDockerRegistry(t)
	var puts atomic.Int64
	proxied, _ := startProxy(t, address, func(n int64, w http.ResponseWriter, r *http.Request, resp *http.Response) {
		if r.Method == http.MethodPut && puts.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		pass(w, resp)
		io.Copy(w, resp.Body)
	})
	remote := openTest(t, proxied+"/a")
	_, err := Copy(context.Background(), f.layout.Repository(), remote, "1.0.0", "1.0.0", nil)
	must(t, err)
	f.checkRelease(t, openTest(t, address+"/a"), "1.0.0")
}

// TestManifestLimits: a manifest that is too large, or not the one asked for, is refused.
func TestManifestLimits(t *testing.T) {
	var body []byte
	contentDigest := ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		if contentDigest != "" {
			w.Header().Set("Docker-Content-Digest", contentDigest)
		}
		w.Write(body)
	}))
	defer s.Close()
	r := openTest(t, strings.TrimPrefix(s.URL, "http://")+"/a")
	for _, c := range []struct {
		name, digest, reference, want string
		body                          []byte
	}{
		{"too large", "", "stable", "larger than", bytes.Repeat([]byte(" "), maxManifest+1)},
		{"another digest said", "sha256:" + strings.Repeat("0", 64), "stable", "damaged", []byte("{}")},
		{"another digest asked for", "", "sha256:" + strings.Repeat("0", 64), "damaged", []byte("{}")},
		{"not an index", "", "stable", "not valid JSON", []byte("<html>")},
		{"not a release", "", "stable", "no release artifact", []byte(`{"schemaVersion":2,"manifests":[]}`)},
		{"a tag that is none", "", "../../etc", "invalid", []byte("{}")},
	} {
		body, contentDigest = c.body, c.digest
		if _, err := r.ReadRelease(context.Background(), c.reference); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}
