package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// transient marks an error after which another attempt makes sense.
type transient struct {
	err   error
	after time.Duration // what the server asked for (Retry-After), or 0
}

func (t *transient) Error() string { return t.err.Error() }
func (t *transient) Unwrap() error { return t.err }

// maxRetryAfter bounds the pause that a server may ask for.
const maxRetryAfter = 30 * time.Second

// retrier counts the attempts at one transfer.
type retrier struct {
	limit   int
	backoff func(int) time.Duration
	used    int
}

// again waits before another attempt after err, or returns the error that ends it all.
func (r *retrier) again(ctx context.Context, err error) error {
	var t *transient
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !errors.As(err, &t):
		return err
	case r.used >= r.limit:
		if r.used == 0 {
			return err
		}
		return fmt.Errorf("%w (tried %d times)", err, r.used+1)
	}
	pause := max(r.backoff(r.used), min(t.after, maxRetryAfter))
	r.used++
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// stream reads the bytes [pos, end) of a blob from as many responses as it takes.
type stream struct {
	ctx      context.Context
	open     func(ctx context.Context, off, n int64) (*http.Response, error) // body has bytes from off on
	pos, end int64
	body     io.ReadCloser
	gained   int64 // bytes since the last cut
	retry    retrier
	err      error // sticky
}

func (s *stream) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if s.pos == s.end {
			s.err = io.EOF
			s.closeBody()
			return 0, s.err
		}
		n, err := s.readOnce(p)
		s.pos += int64(n)
		s.gained += int64(n)
		if n > 0 {
			// An error that came along comes again, at the next Read.
			return n, nil
		}
		if err == nil {
			continue
		}
		s.closeBody()
		if s.gained >= progressResets {
			s.retry.used = 0
		}
		s.gained = 0
		if err := s.retry.again(s.ctx, err); err != nil {
			s.err = err
			return 0, s.err
		}
	}
}

func (s *stream) readOnce(p []byte) (int, error) {
	if s.body == nil {
		resp, err := s.open(s.ctx, s.pos, s.end-s.pos)
		if err != nil {
			return 0, err
		}
		s.body = resp.Body
	}
	n, err := s.body.Read(p[:min(int64(len(p)), s.end-s.pos)])
	switch {
	case err == nil || n > 0:
		return n, nil
	case err == io.EOF:
		err = fmt.Errorf("the server's answer ends %d bytes early: %w", s.end-s.pos, io.ErrUnexpectedEOF)
	}
	return n, &transient{err: err}
}

// Close gives up the rest. A body read to its end leaves its connection for
// the next request; one that is not is cut off rather than drained.
func (s *stream) Close() error {
	s.closeBody()
	if s.err == nil {
		s.err = errors.New("reading a closed stream")
	}
	return nil
}

func (s *stream) closeBody() {
	if s.body == nil {
		return
	}
	// Where the length was announced, the transport saw the end with the last
	// byte and keeps the connection. Where it was not, the end may never come.
	s.body.Close()
	s.body = nil
}
