package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

var errRedirect = errors.New("the server redirects")

// newHTTPClient makes a client whose connections are kept and shared, at most
// o.Connections to a host. HTTP/2 is off: it would put all transfers on one TCP
// connection, and a stall of one could not be told from a stall of all.
//
// Whose scheme is https is never asked by plain HTTP; whose scheme is http, and
// only because it is on the loopback, sends nobody further than that.
func newHTTPClient(scheme string, o Options) *http.Client {
	dialer := &net.Dialer{Timeout: min(o.Stall, 30*time.Second), KeepAlive: 15 * time.Second}
	transport := &http.Transport{
		Proxy: o.Proxy,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &stallConn{Conn: conn, limit: o.Stall}, nil
		},
		TLSClientConfig:        o.TLS,
		TLSHandshakeTimeout:    o.Stall,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{},
		MaxConnsPerHost:        o.Connections,
		MaxIdleConnsPerHost:    o.Connections,
		IdleConnTimeout:        30 * time.Second,
		DisableCompression:     true, // blobs are what they are
		MaxResponseHeaderBytes: 64 << 10,
		ResponseHeaderTimeout:  o.Request,
	}
	return &http.Client{
		Transport: &guard{
			next:    transport,
			plain:   func(host string) bool { return scheme == "http" && (o.PlainHTTP || isLoopback(host)) },
			minRate: o.MinRate,
			window:  o.Window,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) >= 10 {
				return fmt.Errorf("%w more than 10 times", errRedirect)
			}
			if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
				return fmt.Errorf("%w from https to %q", errRedirect, req.URL.Scheme)
			}
			return nil
		},
	}
}

// stallConn fails a read or write when for limit no byte has moved either way.
// Moving bytes one way keeps the other alive: while a large blob is sent, the
// answer is not late.
type stallConn struct {
	net.Conn
	limit time.Duration
}

func (c *stallConn) Read(p []byte) (int, error) {
	if err := c.Conn.SetDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	return n, c.explain(err)
}

// maxWrite is how much one write may hold before the deadline is set anew.
const maxWrite = 256 << 10

func (c *stallConn) Write(p []byte) (int, error) {
	done := 0
	for {
		if err := c.Conn.SetDeadline(time.Now().Add(c.limit)); err != nil {
			return done, err
		}
		n, err := c.Conn.Write(p[done:min(len(p), done+maxWrite)])
		done += n
		if err != nil || done == len(p) {
			return done, c.explain(err)
		}
	}
}

func (c *stallConn) explain(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("no byte moved for %s: %w", c.limit, err)
	}
	return err
}
