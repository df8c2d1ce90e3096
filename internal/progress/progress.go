// Package progress is how long work tells its caller how far it is.
//
// Libraries report; only internal/cli decides what a person sees.
package progress

import "io"

// Unit says what a stage counts.
type Unit int

// The units of a stage.
const (
	Bytes Unit = iota
	Items
)

// Reporter is told about the stages of long work, one stage at a time.
// Methods may be called from several goroutines.
type Reporter interface {
	// Stage begins a stage; total is in units, 0 when it is not known.
	Stage(name string, total int64, unit Unit)
	// Add counts n more units of the current stage as done.
	Add(n int64)
}

// None reports to nobody.
var None Reporter = none{}

type none struct{}

func (none) Stage(string, int64, Unit) {}
func (none) Add(int64)                 {}

// Reader reports the bytes read from r.
func Reader(r io.Reader, p Reporter) io.Reader { return &reader{r, p} }

type reader struct {
	r io.Reader
	p Reporter
}

func (r *reader) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	r.p.Add(int64(n))
	return n, err
}
