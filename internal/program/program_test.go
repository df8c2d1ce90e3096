package program

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestRunReturnsOutput(t *testing.T) {
	out, err := Run(context.Background(), Command{Args: []string{"sh", "-c", "cat; echo $LC_ALL $X"}, Env: []string{"X=y"}, Stdin: strings.NewReader("in ")})
	if err != nil || string(out) != "in C.UTF-8 y\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestErrorCarriesTheLastWords(t *testing.T) {
	_, err := Run(context.Background(), Command{Args: []string{"sh", "-c", "yes first | head -n 1000 >&2; echo the reason >&2; exit 7"}})
	var failed *Error
	if !errors.As(err, &failed) || !strings.HasSuffix(failed.Stderr, "the reason") || len(failed.Stderr) > keepStderr {
		t.Errorf("got %v", err)
	}
}

func TestMissingProgramIsAHint(t *testing.T) {
	_, err := Run(context.Background(), Command{Args: []string{"no-such-program"}})
	var failed *Error
	if !errors.As(err, &failed) || failed.Hint() != "install no-such-program" {
		t.Errorf("got %v, hint %q", err, failed.Hint())
	}
}

func TestAdministratorsProgramsAreFoundForEverybody(t *testing.T) {
	t.Setenv("PATH", "/usr/bin:/bin")
	if _, err := Run(context.Background(), Command{Args: []string{"ldconfig", "--version"}}); err != nil {
		t.Error(err)
	}
}

func TestCancelEndsTheChildrenToo(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := Run(ctx, Command{Args: []string{"sh", "-c", "sleep 60 & sleep 60"}})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 20*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}
