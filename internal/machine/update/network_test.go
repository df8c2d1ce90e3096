package update

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// line is the wire between a machine and a site. It counts what the site sends,
// over all connections, and spoils it at one byte.
type line struct {
	t    *testing.T
	to   string // host:port
	in   net.Listener
	cut  int64 // after this many bytes it is dead; -1: never
	flip int64 // the byte that arrives as another; -1: none

	mu     sync.Mutex
	sent   int64
	starts []int64 // what had been sent when a request came
	open   []net.Conn
}

func newLine(t *testing.T, site *updatetest.Site, cut, flip int64) *line {
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ := strings.Cut(site.Repository, "/")
	l := &line{t: t, to: host, in: in, cut: cut, flip: flip}
	go l.accept()
	return l
}

func (l *line) accept() {
	for {
		client, err := l.in.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", l.to)
		if err != nil {
			client.Close()
			return
		}
		l.mu.Lock()
		dead := l.cut >= 0 && l.sent >= l.cut
		l.open = append(l.open, client, server)
		l.mu.Unlock()
		if dead {
			client.Close()
			server.Close()
			continue
		}
		go l.carry(server, client, func(b []byte) []byte {
			l.starts = append(l.starts, l.sent)
			return b
		})
		go l.carry(client, server, l.spoil)
	}
}

// carry copies from one end to the other through fn, which is called alone; less
// than it was given means that the line is dead.
func (l *line) carry(to, from net.Conn, fn func([]byte) []byte) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		if n > 0 {
			l.mu.Lock()
			part := fn(b[:n])
			l.mu.Unlock()
			if _, err := to.Write(part); err != nil || len(part) < n {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *line) spoil(b []byte) []byte {
	if at := l.flip - l.sent; at >= 0 && at < int64(len(b)) {
		b[at] ^= 0x20
	}
	if left := l.cut - l.sent; l.cut >= 0 && left < int64(len(b)) {
		b = b[:max(left, 0)]
	}
	l.sent += int64(len(b))
	return b
}

func (l *line) close() {
	l.in.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.open {
		c.Close()
	}
}

// update stages what the channel names over the line.
func (l *line) update(w *world, c *updatetest.Computer) error {
	_, name, _ := strings.Cut(w.site.Repository, "/")
	repo, _, err := registry.Open(l.in.Addr().String()+"/"+name, registry.Options{Backoff: func(int) time.Duration { return time.Millisecond }})
	w.must(err)
	m, ctx := machineOf(c), context.Background()
	w.must(m.Prepare())
	f, err := m.Check(ctx, repo, w.wanted())
	if err != nil {
		return err
	}
	plan, err := m.PlanStage(ctx, f, progress.None)
	if err != nil {
		return err
	}
	return m.Stage(ctx, plan, progress.None)
}

// TestBadLine cuts the network for good at bytes of an update that are spread
// evenly over it, and around the beginning of every answer; and lets single bytes
// arrive as others. Each ends in one sentence, or gets by, with what ran and booted
// before still doing so, or with the release staged and whole. Then the line is
// well, and the next run finishes.
func TestBadLine(t *testing.T) {
	w, v1 := newWorld(t)
	v2 := w.publish("2.0.0")
	whole := newLine(t, w.site, -1, -1)
	w.must(whole.update(w, w.c.Copy()))
	whole.close()
	total := whole.sent

	const spread = 48
	var cuts, flips []int64
	for i := range int64(spread) {
		cuts = append(cuts, total*i/spread)
		flips = append(flips, total*i/spread+total/spread/2)
	}
	for _, start := range whole.starts {
		cuts = append(cuts, start, start+1, max(start-1, 0))
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)

	failed := 0
	try := func(cut, flip int64) {
		c := w.c.Copy()
		l := newLine(t, w.site, cut, flip)
		err := l.update(w, c)
		l.close()
		next, want := c.WouldBoot(), v1.Image()
		if err == nil {
			want = v2.Image()
		} else {
			failed++
		}
		if next != want {
			t.Errorf("cut at %d, flipped at %d: %v, and %s boots next", cut, flip, err, next.Short())
		}
		if err != nil && (strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "cannot ")) {
			t.Errorf("cut at %d, flipped at %d: that is no sentence: %q", cut, flip, err)
		}
		if cut >= 0 && cut < total-1 && err == nil {
			t.Errorf("cut at byte %d of %d, and it is not noticed", cut, total)
		}
		w.must(c.Whole(next))
		w.must(c.Whole(v1.Image()))
		m := machineOf(c)
		w.must(m.Prepare())
		if next != v2.Image() {
			w.must(w.tryStage(m))
		}
		if left := c.Leftovers(); len(left) > 0 {
			t.Errorf("cut at %d, flipped at %d: left %q", cut, flip, left)
		}
		if next := c.WouldBoot(); next != v2.Image() {
			t.Errorf("cut at %d, flipped at %d: after the next run %s boots next", cut, flip, next.Short())
		}
		w.must(c.Whole(v2.Image()))
	}
	for _, cut := range cuts {
		try(cut, -1)
	}
	for _, flip := range flips {
		try(-1, flip)
	}
	t.Logf("%d bytes: %d cuts, %d bytes changed; %d of them errors to the person, none lost anything", total, len(cuts), len(flips), failed)
}
