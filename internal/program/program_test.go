package program

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
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

// TestNobodyIsLeft: children that ignore SIGTERM, or hold the output of a
// program that has ended, are killed all the same.
func TestNobodyIsLeft(t *testing.T) {
	for name, script := range map[string]string{
		"deaf to SIGTERM": "trap '' TERM; echo $$; (while :; do sleep 1; done) & wait",
		"left behind":     "echo $$; sleep 60 &",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			var out strings.Builder
			_, err := Run(ctx, Command{Args: []string{"sh", "-c", script}, Stdout: &out, Grace: 200 * time.Millisecond})
			if err == nil {
				t.Error("no error")
			}
			group, err := strconv.Atoi(strings.TrimSpace(out.String()))
			if err != nil {
				t.Fatal(err)
			}
			// Killed ones go when init takes them over.
			for end := time.Now().Add(10 * time.Second); syscall.Kill(-group, 0) == nil; {
				if living(t, group) == 0 {
					return
				}
				if time.Now().After(end) {
					t.Fatalf("process group %d is alive", group)
				}
				runtime.Gosched()
			}
		})
	}
}

// living counts the processes of a group that are not dead and waiting to be
// buried: in a container nobody may do that.
func living(t *testing.T, group int) (n int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		f := strings.Fields(rest) // state, parent, process group
		if len(f) > 2 && f[2] == strconv.Itoa(group) && f[0] != "Z" && f[0] != "X" {
			n++
		}
	}
	return n
}

// Check names the first program that is not there, with the package that has it.
func TestCheck(t *testing.T) {
	if err := Check("sh", "mke2fs"); err != nil { // mke2fs is not in everybody's PATH
		t.Error(err)
	}
	var missing *Error
	if err := Check("sh", "no-such-program", "cat"); !errors.As(err, &missing) || missing.Name != "no-such-program" {
		t.Errorf("error is %v", err)
	}
}
