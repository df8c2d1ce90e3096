package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	orasregistry "oras.land/oras-go/v2/registry"
)

// front starts a TLS server that asks for a password and sends who has one to
// redirect for blobs, as large registries do; everything else is own's.
func front(t *testing.T, own http.Handler, redirect string) (address string, o Options) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "machine" || password != "swordfish" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.Contains(r.URL.Path, "/blobs/") && redirect != "" {
			http.Redirect(w, r, redirect+r.URL.Path, http.StatusTemporaryRedirect)
			return
		}
		own.ServeHTTP(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are wanted here
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	address = strings.TrimPrefix(s.URL, "https://")
	return address, Options{
		TLS:             &tls.Config{RootCAs: roots},
		CredentialFiles: []string{passwordFile(t, address, "machine", "swordfish")},
		Backoff:         func(int) time.Duration { return time.Millisecond },
	}
}

// overTLS opens a repository behind TLS, though a loopback host would get plain HTTP.
func overTLS(t *testing.T, address string, o Options) *Repository {
	t.Helper()
	ref, err := orasregistry.ParseReference(address + "/acme/server")
	must(t, err)
	place, err := newRemote(ref, "https", o.withDefaults())
	must(t, err)
	return &Repository{Name: address, place: place, connections: defaultConnections}
}

// TestRedirectedBlobs: ranges survive a redirect to another host, the password does not.
func TestRedirectedBlobs(t *testing.T) {
	f := newFixture(t, "1.0.0", 100_000).written(t, "", "stable")
	own, err := NewServer(f.dir, ServerOptions{})
	must(t, err)
	storage := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the password went to another host")
		}
		own.ServeHTTP(w, r)
	}))
	defer storage.Close()
	// Another name for the same address is another host; httptest's certificate has this one.
	address, o := front(t, own, strings.Replace(storage.URL, "127.0.0.1", "example.com", 1))
	o.TLS.RootCAs.AddCert(storage.Certificate())
	r := overTLS(t, address, o)
	transport := r.place.(*remote).client.Client.Transport.(*guard).next.(*http.Transport)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return dial(ctx, network, strings.Replace(addr, "example.com", "127.0.0.1", 1))
	}
	f.checkRelease(t, r, "stable")
	rel, err := r.ReadRelease(context.Background(), "stable")
	must(t, err)
	if got, err := readAll(r.FetchRange(context.Background(), rel.Pack, 50, 500)); err != nil || !bytes.Equal(got, f.pack[50:550]) {
		t.Errorf("range: %d bytes, %v", len(got), err)
	}
}

func TestRefusedConnections(t *testing.T) {
	f := newFixture(t, "1.0.0", 1000).written(t, "", "stable")
	own, err := NewServer(f.dir, ServerOptions{})
	must(t, err)
	plainServer := httptest.NewServer(own)
	defer plainServer.Close()
	read := func(r *Repository) error {
		rel, err := r.ReadRelease(context.Background(), "stable")
		if err == nil {
			_, err = readAll(rel.OpenPack(context.Background()))
		}
		return err
	}

	address, o := front(t, own, plainServer.URL)
	if err := read(overTLS(t, address, o)); !errors.Is(err, errRedirect) {
		t.Errorf("a redirect to plain HTTP: %v", err)
	}
	address, o = front(t, own, "")
	must(t, read(overTLS(t, address, o)))
	o.TLS = nil
	var certErr *tls.CertificateVerificationError
	if err := read(overTLS(t, address, o)); !errors.As(err, &certErr) {
		t.Errorf("an unknown certificate: %v", err)
	}
	var plainErr *PlainHTTPError
	if err := read(overTLS(t, strings.TrimPrefix(plainServer.URL, "http://"), o)); !errors.As(err, &plainErr) || !strings.Contains(plainErr.Hint(), "http://") {
		t.Errorf("a server without TLS: %v", err)
	}
	if err := read(openTest(t, freeAddress(t)+"/a")); err == nil || !strings.Contains(err.Error(), "tried 4 times") {
		t.Errorf("no server: %v", err)
	}
}
