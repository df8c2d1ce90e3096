package registry

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	orasregistry "oras.land/oras-go/v2/registry"

	"github.com/ashlar-os/ashlar/internal/image/release"
)

// Options says how a repository is reached. The zero value is usable.
type Options struct {
	// PlainHTTP uses http:// for every host; loopback hosts use it anyway.
	PlainHTTP bool

	// UserAgent is what requests call themselves; empty: ashlar/VERSION.
	UserAgent string

	// CredentialFiles are files in Docker's or Podman's format (config.json,
	// auth.json), the first that knows the host wins. Missing files are
	// ignored. Credential helpers named in them are not run.
	CredentialFiles []string

	// Proxy chooses a proxy per request, as http.ProxyFromEnvironment; nil: none.
	Proxy func(*http.Request) (*url.URL, error)

	// TLS replaces the default TLS settings.
	TLS *tls.Config

	// Connections is how many connections to one host may be open; 0: 4.
	Connections int

	// Stall is how long a connection may be silent; 0: one minute.
	Stall time.Duration

	// Request is how long a small request may take in all, with its repetitions:
	// for a manifest, the release document, the list of tags; 0: two minutes.
	// The head of any answer may take as long.
	Request time.Duration

	// MinRate is how many bytes a second an answer must bring on average over
	// each Window, or it is cut off as if the connection had broken; 0: 1024,
	// less than a GSM modem.
	MinRate int64

	// Window is the time over which MinRate is taken; 0: one minute.
	Window time.Duration

	// Retries is how often in a row a broken transfer is tried again; 0: 6, negative: never.
	Retries int

	// Backoff is the pause before new attempt n (from 0); nil: half a second, doubling to 16 s.
	Backoff func(n int) time.Duration

	// Create makes the directory of an "oci:DIR" reference if it is missing.
	Create bool
}

func (o Options) withDefaults() Options {
	if o.UserAgent == "" {
		o.UserAgent = "ashlar/" + release.BuilderVersion
	}
	if o.Connections <= 0 {
		o.Connections = defaultConnections
	}
	if o.Stall <= 0 {
		o.Stall = defaultStall
	}
	if o.Request <= 0 {
		o.Request = defaultRequest
	}
	if o.MinRate <= 0 {
		o.MinRate = defaultMinRate
	}
	if o.Window <= 0 {
		o.Window = defaultWindow
	}
	switch {
	case o.Retries == 0:
		o.Retries = defaultRetries
	case o.Retries < 0:
		o.Retries = 0
	}
	if o.Backoff == nil {
		o.Backoff = backoff
	}
	return o
}

// Open gives the repository that ref names, and ref's tag or digest ("" when it
// has none). Nothing is fetched yet.
//
// ref is HOST[:PORT]/PATH[:TAG|@DIGEST], or oci:DIR[:TAG|@DIGEST], or the path
// of an existing OCI layout directory, also with a tag.
func Open(ref string, o Options) (*Repository, string, error) {
	o = o.withDefaults()
	if rest, ok := strings.CutPrefix(ref, "oci:"); ok {
		dir, tag := splitLayoutReference(rest)
		return openLayoutRepository(dir, tag, o)
	}
	for _, split := range []func(string) (string, string){noTag, splitLayoutReference} {
		if dir, tag := split(ref); isLayout(dir) {
			return openLayoutRepository(dir, tag, o)
		}
	}
	if strings.HasPrefix(ref, "/") || strings.HasPrefix(ref, ".") {
		return nil, "", fmt.Errorf("opening repository %q: it is not an OCI layout directory (it has no file %q)", ref, layoutFile)
	}
	parsed, err := orasregistry.ParseReference(ref)
	if err != nil {
		return nil, "", fmt.Errorf("opening repository %q: want HOST/PATH[:TAG] or oci:DIR: %w", ref, err)
	}
	remote, err := newRemote(parsed, schemeOf(parsed, o), o)
	if err != nil {
		return nil, "", fmt.Errorf("opening repository %q: %w", ref, err)
	}
	return &Repository{
		Name: parsed.Registry + "/" + parsed.Repository, place: remote, connections: o.Connections, request: o.Request,
	}, parsed.Reference, nil
}

func schemeOf(ref orasregistry.Reference, o Options) string {
	if o.PlainHTTP || isLoopback(ref.Host()) {
		return "http"
	}
	return "https"
}

func openLayoutRepository(dir, tag string, o Options) (*Repository, string, error) {
	open := OpenLayout
	if o.Create {
		open = CreateLayout
	}
	l, err := open(dir)
	if err != nil && !isLayout(dir) {
		err = &unreachable{err} // as when the stick with it is not plugged in
	}
	if err != nil {
		return nil, "", err
	}
	return l.Repository(), tag, nil
}

func noTag(ref string) (dir, tag string) { return ref, "" }

// splitLayoutReference splits DIR[:TAG|@DIGEST]. A colon before the last slash belongs to DIR.
func splitLayoutReference(ref string) (dir, tag string) {
	if dir, digest, ok := strings.Cut(ref, "@sha256:"); ok {
		return dir, "sha256:" + digest
	}
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		return ref[:i], ref[i+1:]
	}
	return ref, ""
}

func isLayout(dir string) bool {
	if dir == "" {
		return false
	}
	_, err := os.Lstat(filepath.Join(dir, layoutFile))
	return err == nil
}

// isLoopback says whether host[:port] can only be this machine.
func isLoopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}
