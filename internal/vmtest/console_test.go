package vmtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestConsoleWaitsForWhatIsSaid(t *testing.T) {
	var log bytes.Buffer
	c := newConsole(&log)
	c.power(true)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	go func() {
		for _, part := range []string{"boot", "ing 1\nlog", "in: one\nlogin: two\n"} {
			io.WriteString(c, part)
		}
	}()
	login := regexp.MustCompile(`login: \w+\n`)
	for _, want := range []string{"login: one\n", "login: two\n"} {
		if got, err := c.Wait(ctx, login); got != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	go c.power(false)
	if _, err := c.Wait(ctx, login); !errors.Is(err, ErrOff) {
		t.Errorf("the machine went off, and the error is %v", err)
	}
	c.power(true)
	if c.Text() != "" {
		t.Errorf("a new start finds %q on the console", c.Text())
	}
	if !strings.HasSuffix(log.String(), "two\n") {
		t.Errorf("the log has %q", log.String())
	}
}
