package update

import (
	"os"
	"sync"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// moments calls fn at every moment of staging that can be seen from outside: a
// request to the site, a report of progress, a file being sealed or measured.
type moments struct {
	mu sync.Mutex
	n  int
	fn func(n int)
}

func (c *moments) now() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	c.fn(c.n)
}

func (c *moments) Stage(string, int64, progress.Unit) { c.now() }
func (c *moments) Add(int64)                          { c.now() }

// sealer is Software with an eye on it.
type sealer struct{ *moments }

func (s sealer) Seal(f *os.File) error { s.now(); return store.Software.Seal(f) }
func (s sealer) Measure(f *os.File) (verity.Digest, error) {
	s.now()
	return store.Software.Measure(f)
}
