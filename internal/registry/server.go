package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ServerOptions says how a layout is served.
type ServerOptions struct {
	// Repository is the only name to serve under; empty: every valid name.
	Repository string
	// Log is called after each request, before it is counted; nil: not.
	Log func(LogEntry)
}

// Server serves a layout directory with the OCI distribution API, to read
// only. It sees a release that is written while it runs. It knows no users:
// whatever is in the directory is public.
type Server struct {
	layout  *Layout
	options ServerOptions
	counts  counts
	catalog catalog
}

// NewServer makes a server, an http.Handler, for the layout in dir.
func NewServer(dir string, o ServerOptions) (*Server, error) {
	layout, err := OpenLayout(dir)
	if err != nil {
		return nil, err
	}
	if o.Repository != "" && !isRepository(o.Repository) {
		return nil, fmt.Errorf("%q cannot be the name of a repository", o.Repository)
	}
	return &Server{layout: layout, options: o}, nil
}

// shutdownGrace is how long requests may go on after the context's end.
const shutdownGrace = 5 * time.Second

// Serve answers on listener until ctx ends, then lets requests finish for a moment.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	finished := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(finished)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return fmt.Errorf("serving %q: %w", s.layout.dir, err)
	}
	<-finished // Serve returns when Shutdown begins
	return nil
}

// ServeHTTP answers one request, and counts it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	counted := &countingWriter{ResponseWriter: w, head: r.Method == http.MethodHead, status: http.StatusOK}
	s.counts.begin()
	defer func() { // also when the answer is broken off by a panic, as net/http does it
		defer s.counts.end(r, counted)
		if s.options.Log != nil {
			s.options.Log(LogEntry{
				Method: r.Method, Path: r.URL.Path, Range: r.Header.Get("Range"), Agent: r.UserAgent(),
				Status: counted.status, Bytes: counted.bytes, Duration: time.Since(start),
			})
		}
	}()
	s.route(counted, r)
}

func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "this registry is read-only")
		return
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	switch {
	case r.URL.Path == "/v2" || ok && rest == "":
		writeJSON(w, "application/json", []byte("{}"))
		return
	case !ok:
		http.NotFound(w, r)
		return
	}
	name, kind, last, ok := splitPath(rest)
	switch {
	case !ok:
		http.NotFound(w, r)
	case !isRepository(name):
		refuse(w, http.StatusBadRequest, "NAME_INVALID", "that cannot be the name of a repository")
	case s.options.Repository != "" && name != s.options.Repository:
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "there is no such repository here")
	case kind == "manifests":
		s.serveManifest(w, r, last)
	case kind == "blobs":
		s.serveBlob(w, r, last)
	case kind == "tags":
		s.serveTags(w, r, name)
	case kind == "referrers":
		s.serveReferrers(w, r, last)
	}
}

// splitPath splits NAME/KIND/LAST. NAME may have slashes, KIND and LAST have none.
func splitPath(rest string) (name, kind, last string, ok bool) {
	parts := strings.Split(rest, "/")
	if len(parts) < 3 {
		return "", "", "", false
	}
	n := len(parts) - 2
	name, kind, last = strings.Join(parts[:n], "/"), parts[n], parts[n+1]
	ok = slices.Contains([]string{"manifests", "blobs", "referrers"}, kind) || kind == "tags" && last == "list"
	return name, kind, last, ok
}

func (s *Server) serveManifest(w http.ResponseWriter, r *http.Request, reference string) {
	if digestOnly(reference) == "" && !isTag(reference) || digestOnly(reference) != "" && checkDigest(digest.Digest(reference)) != nil {
		refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", "that is neither a tag nor a sha256 digest")
		return
	}
	desc, body, err := s.layout.manifest(r.Context(), reference)
	if err != nil {
		s.fail(w, err, "MANIFEST_UNKNOWN")
		return
	}
	w.Header().Set("Docker-Content-Digest", desc.Digest.String())
	w.Header().Set("ETag", `"`+desc.Digest.String()+`"`)
	writeJSON(w, desc.MediaType, body)
}

func (s *Server) serveBlob(w http.ResponseWriter, r *http.Request, last string) {
	d := digest.Digest(last)
	if checkDigest(d) != nil {
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "that is not a sha256 digest")
		return
	}
	f, err := openBlob(s.layout.BlobPath(d))
	if err != nil {
		s.fail(w, err, "BLOB_UNKNOWN")
		return
	}
	defer f.Close()
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("ETag", `"`+d.String()+`"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, f)
}

func (s *Server) serveTags(w http.ResponseWriter, r *http.Request, name string) {
	tags, err := s.layout.tags(r.Context())
	if err != nil {
		s.fail(w, err, "NAME_UNKNOWN")
		return
	}
	if last := r.URL.Query().Get("last"); last != "" {
		i, found := slices.BinarySearch(tags, last)
		if found {
			i++
		}
		tags = tags[i:]
	}
	if n, ok := parseDecimal(r.URL.Query().Get("n")); ok && n < int64(len(tags)) {
		tags = tags[:n]
		if n > 0 {
			w.Header().Set("Link", fmt.Sprintf(`</v2/%s/tags/list?n=%d&last=%s>; rel="next"`, name, n, tags[n-1]))
		}
	}
	answer, _ := json.Marshal(struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{name, append([]string{}, tags...)})
	writeJSON(w, "application/json", answer)
}

func (s *Server) serveReferrers(w http.ResponseWriter, r *http.Request, last string) {
	if checkDigest(digest.Digest(last)) != nil {
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "that is not a sha256 digest")
		return
	}
	referrers, err := s.catalog.referrers(s.layout)
	if err != nil {
		s.fail(w, err, "MANIFEST_UNKNOWN")
		return
	}
	index := emptyIndex()
	want := r.URL.Query().Get("artifactType")
	for _, desc := range referrers[digest.Digest(last)] {
		if want == "" || desc.ArtifactType == want {
			index.Manifests = append(index.Manifests, desc)
		}
	}
	if want != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	answer, _ := json.Marshal(index)
	writeJSON(w, ocispec.MediaTypeImageIndex, answer)
}

// fail answers with what went wrong; only that something is missing is told.
func (s *Server) fail(w http.ResponseWriter, err error, code string) {
	if errors.Is(err, ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		refuse(w, http.StatusNotFound, code, "there is no such thing here")
		return
	}
	refuse(w, http.StatusInternalServerError, "UNKNOWN", "the server cannot read its files")
}

// refuse answers with an error as the distribution specification words it.
func refuse(w http.ResponseWriter, status int, code, message string) {
	type one struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	answer, _ := json.Marshal(struct {
		Errors []one `json:"errors"`
	}{[]one{{code, message}}})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(answer)
}

// writeJSON answers; net/http leaves the body out for HEAD.
func writeJSON(w http.ResponseWriter, contentType string, b []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	w.Write(b)
}
