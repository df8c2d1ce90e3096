package registry

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Stats counts what a server was asked for and what it sent.
type Stats struct {
	Requests  int64 // all, whatever the answer
	Ranges    int64 // of them answered with a part (206)
	Manifests int64 // of them for a manifest
	Blobs     int64 // of them for a blob, whole or in part
	Errors    int64 // of them answered with 400 or above
	Bytes     int64 // of bodies sent
}

// LogEntry is one request, answered.
type LogEntry struct {
	Method, Path string
	Range        string // the header asked with, or ""
	Agent        string
	Status       int
	Bytes        int64 // of the body sent
	Duration     time.Duration
}

// counts are the Stats so far, and how many requests are being answered.
type counts struct {
	mu     sync.Mutex
	stats  Stats
	active int
	idle   chan struct{} // closed when active falls to 0; nil while it is 0
}

// settle is how long Stats waits for answers on their way. A client has the
// last byte a moment before it is counted here.
const settle = time.Second

// Stats returns the counts since the start or the last ResetStats.
func (s *Server) Stats() Stats {
	c := &s.counts
	c.settled()
	defer c.mu.Unlock()
	return c.stats
}

// ResetStats sets the counts to zero and returns what they were.
func (s *Server) ResetStats() Stats {
	c := &s.counts
	c.settled()
	defer c.mu.Unlock()
	old := c.stats
	c.stats = Stats{}
	return old
}

// settled waits until nothing is being answered, not longer than settle, and locks c.
func (c *counts) settled() {
	timeout := time.After(settle)
	c.mu.Lock()
	for c.active > 0 {
		idle := c.idle
		c.mu.Unlock()
		select {
		case <-idle:
			c.mu.Lock()
		case <-timeout:
			c.mu.Lock()
			return
		}
	}
}

func (c *counts) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.active++; c.active == 1 {
		c.idle = make(chan struct{})
	}
}

// end counts a request, answered or given up.
func (c *counts) end(r *http.Request, w *countingWriter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.active--; c.active == 0 {
		close(c.idle)
	}
	c.stats.Requests++
	c.stats.Bytes += w.bytes
	if w.status == http.StatusPartialContent {
		c.stats.Ranges++
	}
	if w.status >= 400 {
		c.stats.Errors++
	}
	if _, kind, _, ok := splitPath(strings.TrimPrefix(r.URL.Path, "/v2/")); ok {
		switch kind {
		case "manifests":
			c.stats.Manifests++
		case "blobs":
			c.stats.Blobs++
		}
	}
}

// countingWriter counts a body's bytes; there are none in an answer to HEAD.
type countingWriter struct {
	http.ResponseWriter
	head   bool
	status int
	bytes  int64
}

func (w *countingWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.count(int64(n))
	return n, err
}

// ReadFrom keeps sendfile(2) possible: net/http's writer has it too.
func (w *countingWriter) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(w.ResponseWriter, r)
	w.count(n)
	return n, err
}

func (w *countingWriter) count(n int64) {
	if !w.head {
		w.bytes += n
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
