//go:build vm

package vm

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// TestPowerCutRightAfterStaging: once update says that a release is staged, it is.
func TestPowerCutRightAfterStaging(t *testing.T) {
	t.Parallel()
	m := newMachine(t, sealed, "vm")
	m.boot()
	site := openSite(t, "1.0.0")
	m.follow(site)
	site.publish("2.0.0")
	m.expectContains("update", m.sh("ashlar update"), "staged and boots next")
	m.PowerCut()

	m.boot()
	m.expect("release after the cut", m.version(), "2.0.0")
	m.expectContains("verify", m.sh("ashlar verify"), "good:")
}

// TestPowerCutInTheMiddleOfStaging: the old system boots, and the next update
// completes without fetching again what had arrived.
func TestPowerCutInTheMiddleOfStaging(t *testing.T) {
	t.Parallel()
	m := newMachine(t, sealed, "vm")
	m.boot()
	stall := &stalling{reached: make(chan struct{}), release: make(chan struct{})}
	site := openSite(t, "1.0.0", stall.wrap)
	m.follow(site)
	site.publish("2.0.0")

	stall.after.Store(100 << 10) // bytes of object ranges
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx, "ashlar update") //nolint:errcheck // it is cut
	}()
	select {
	case <-stall.reached:
	case <-ctx.Done():
		t.Fatal("the update never got to the objects")
	}
	m.PowerCut()
	<-done
	stall.after.Store(0)
	close(stall.release)

	m.boot()
	m.expect("release after the cut", m.version(), "1.0.0")
	m.expect("what boots next", next(m), "1.0.0")
	m.expectContains("verify", m.sh("ashlar verify"), "good:")
	m.expectContains("update", m.sh("ashlar update"), "staged and boots next")
	m.reboot()
	m.expect("release after the update", m.version(), "2.0.0")
	m.expectContains("verify", m.sh("ashlar verify"), "good:")
}

// stalling is a network that goes silent in the middle of the object ranges.
type stalling struct {
	after   atomic.Int64 // bytes of ranges that pass; 0: all
	passed  atomic.Int64
	stalled atomic.Bool
	reached chan struct{} // closed when it went silent
	release chan struct{} // closed when it need not be silent any more
}

func (s *stalling) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" && s.after.Load() > 0 {
			w = &stallingWriter{w, s}
		}
		next.ServeHTTP(w, r)
	})
}

type stallingWriter struct {
	http.ResponseWriter
	s *stalling
}

func (w *stallingWriter) Write(p []byte) (int, error) {
	if limit := w.s.after.Load(); limit > 0 && w.s.passed.Add(int64(len(p))) > limit {
		if w.s.stalled.CompareAndSwap(false, true) {
			close(w.s.reached)
		}
		select {
		case <-w.s.release:
		case <-time.After(longestSilence):
		}
		return 0, io.ErrClosedPipe
	}
	return w.ResponseWriter.Write(p)
}

// longestSilence ends a silence that nobody ended, so that no test hangs on it.
const longestSilence = 10 * time.Minute
