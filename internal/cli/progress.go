package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/ashlar-os/ashlar/internal/progress"
)

// progressLine draws one line on a terminal, rewritten ten times a second;
// elsewhere it writes a plain line where a stage begins. A stage shorter than
// a second shows nothing on a terminal.
type progressLine struct {
	w        io.Writer
	terminal bool
	now      func() time.Time

	mu          sync.Mutex
	name        string
	unit        progress.Unit
	done, total int64
	begun, last time.Time
	drawn       bool
}

func newProgressLine(w io.Writer) *progressLine {
	p := &progressLine{w: w, now: time.Now}
	if f, ok := w.(*os.File); ok {
		p.terminal = term.IsTerminal(int(f.Fd()))
	}
	return p
}

func (p *progressLine) Stage(name string, total int64, unit progress.Unit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	p.name, p.unit, p.total, p.done = name, unit, total, 0
	p.begun = p.now()
	p.last = p.begun
	if !p.terminal {
		fmt.Fprintf(p.w, "%s\n", name)
	}
}

func (p *progressLine) Add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	now := p.now()
	if !p.terminal || now.Sub(p.begun) < time.Second || now.Sub(p.last) < 100*time.Millisecond {
		return
	}
	p.last = now
	fmt.Fprintf(p.w, "\r\033[K%s", progressText(p.name, p.done, p.total, p.unit, now.Sub(p.begun)))
	p.drawn = true
}

func (p *progressLine) erase() {
	if p.drawn {
		fmt.Fprint(p.w, "\r\033[K")
		p.drawn = false
	}
}

// finish takes the line away, so that what follows begins at the margin.
func (p *progressLine) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
}

// progressText is one line: what, how much of how much, the rate, the time left.
func progressText(name string, done, total int64, unit progress.Unit, passed time.Duration) string {
	amount := func(n int64) string {
		if unit == progress.Bytes {
			return formatBytes(n)
		}
		return fmt.Sprint(n)
	}
	rate := int64(float64(done) / passed.Seconds())
	if total <= 0 {
		return fmt.Sprintf("%s  %s  %s/s", name, amount(done), amount(rate))
	}
	text := fmt.Sprintf("%s  %s of %s (%d%%)  %s/s", name, amount(done), amount(total), done*100/total, amount(rate))
	if rate > 0 && done < total {
		left := time.Duration((total-done)/rate+1) * time.Second
		text += "  " + left.String() + " left"
	}
	return text
}

// formatBytes writes n bytes with a decimal unit, as disks and networks count.
func formatBytes(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	default:
		return fmt.Sprintf("%d B", n)
	}
}
