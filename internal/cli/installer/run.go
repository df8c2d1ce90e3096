package installer

import (
	"context"
	"io"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/ashlar-os/ashlar/internal/machine/install"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// Terminal is what the installer is shown on.
type Terminal struct {
	In            io.Reader
	Out           io.Writer
	Width, Height int // 0: it does not say, as a serial console
}

// Run shows the installer until it is left. It returns what was installed; nil, nil
// when nothing was.
func Run(ctx context.Context, b Backend, a install.Answers, t Terminal) (*install.Result, error) {
	m := New(b, a)
	options := []tea.ProgramOption{
		tea.WithContext(ctx), tea.WithInput(t.In), tea.WithOutput(t.Out),
		tea.WithoutSignalHandler(),
	}
	if t.Width <= 0 || t.Height <= 0 {
		options = append(options, tea.WithWindowSize(width, height))
	}
	p := tea.NewProgram(m, options...)
	m.send = p.Send
	if _, err := p.Run(); err != nil {
		return nil, err
	}
	return m.Result()
}

// reporter passes progress on, some times in a second and not for every block.
type reporter struct {
	send func(tea.Msg)

	mu   sync.Mutex
	sum  int64
	last time.Time
}

// Stage implements [progress.Reporter].
func (r *reporter) Stage(name string, total int64, unit progress.Unit) {
	r.mu.Lock()
	r.sum, r.last = 0, time.Time{}
	r.mu.Unlock()
	r.send(stageMsg{name, total, unit})
}

// Add implements [progress.Reporter].
func (r *reporter) Add(n int64) {
	const every = 200 * time.Millisecond // a serial console has 11 KB a second
	r.mu.Lock()
	r.sum += n
	now := time.Now()
	if now.Sub(r.last) < every {
		r.mu.Unlock()
		return
	}
	sum := r.sum
	r.sum, r.last = 0, now
	r.mu.Unlock()
	r.send(addMsg(sum))
}
