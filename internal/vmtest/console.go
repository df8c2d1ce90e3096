package vmtest

import (
	"context"
	"io"
	"regexp"
	"sync"
)

// Console is what a VM's serial console said, kept in memory and in a file.
type Console struct {
	mu     sync.Mutex
	log    io.Writer // everything, over all starts
	text   []byte    // since the last start
	cursor int       // how far Wait has read
	event  chan struct{}
	off    bool
}

func newConsole(log io.Writer) *Console {
	return &Console{log: log, event: make(chan struct{}), off: true}
}

// Write takes what QEMU's serial port says.
func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p...)
	c.wake()
	return c.log.Write(p)
}

func (c *Console) wake() {
	close(c.event)
	c.event = make(chan struct{})
}

// power tells of a start, which begins with an empty console, or of the end.
func (c *Console) power(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.off = !on; on {
		c.text, c.cursor = nil, 0
	}
	c.wake()
}

// Wait returns the first match of pattern in what was said after the last match.
// It fails when the VM goes off without having said it.
func (c *Console) Wait(ctx context.Context, pattern *regexp.Regexp) (string, error) {
	for {
		c.mu.Lock()
		at := pattern.FindIndex(c.text[c.cursor:])
		if at != nil {
			match := string(c.text[c.cursor+at[0] : c.cursor+at[1]])
			c.cursor += at[1]
			c.mu.Unlock()
			return match, nil
		}
		off, event := c.off, c.event
		c.mu.Unlock()
		if off {
			return "", ErrOff
		}
		select {
		case <-event:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// Text is all that was said since the last start.
func (c *Console) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}
