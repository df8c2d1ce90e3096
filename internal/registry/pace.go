package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// errUnprotected says that a server which is not trusted without TLS wants its
// clients to go on without: for a token, with the password, or for more tags.
var errUnprotected = errors.New("the server sends its clients on to plain HTTP")

// guard is what every request of a repository passes, also those that oras-go
// makes, that ask for a token and that follow a redirect.
type guard struct {
	next    http.RoundTripper
	plain   func(host string) bool // says whether host may be asked without TLS
	minRate int64                  // bytes a second that a body must bring …
	window  time.Duration          // … on average over this time
}

func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !g.plain(req.URL.Host) {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, fmt.Errorf("asking %q: %w", req.URL.Host, errUnprotected)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	resp, err := g.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	b := &pacedBody{body: resp.Body, ctx: ctx, cancel: cancel, minRate: g.minRate, window: g.window}
	b.slow = fmt.Errorf("the server sends less than %d bytes a second", g.minRate)
	b.timer = time.AfterFunc(g.window, func() { cancel(b.slow) })
	b.timer.Stop()
	resp.Body = b
	return resp, nil
}

// pacedBody fails when it brings too little. A connection that is never silent
// for long (stallConn) would otherwise keep a request alive with single bytes.
// Only the time inside Read counts: a caller that is busy between reads does
// not make the server slow.
type pacedBody struct {
	body    io.ReadCloser
	ctx     context.Context // of the request
	cancel  context.CancelCauseFunc
	slow    error // the cause with which it is cancelled
	minRate int64
	window  time.Duration

	timer  *time.Timer   // ends a Read that outlasts the window
	waited time.Duration // in this window
	got    int64         // in this window
}

func (b *pacedBody) Read(p []byte) (int, error) {
	start := time.Now()
	b.timer.Reset(b.window - b.waited)
	n, err := b.body.Read(p)
	b.timer.Stop()
	b.waited += time.Since(start)
	b.got += int64(n)
	if b.waited >= b.window {
		if err == nil && float64(b.got) < float64(b.minRate)*b.waited.Seconds() {
			b.cancel(b.slow)
			return n, b.slow
		}
		b.waited, b.got = 0, 0
	}
	if err != nil && err != io.EOF && context.Cause(b.ctx) == b.slow {
		err = b.slow
	}
	return n, err
}

func (b *pacedBody) Close() error {
	b.timer.Stop()
	defer b.cancel(nil)
	return b.body.Close()
}
