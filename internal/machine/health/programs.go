package health

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ashlar-os/ashlar/internal/machine/history"
	"github.com/ashlar-os/ashlar/internal/program"
)

// programDirs hold the image's checks and the machine's. Of two with one name
// the machine's counts, as with systemd's units; a link to /dev/null is none.
var programDirs = []string{"/usr/lib/ashlar/health.d", "/etc/ashlar/health.d"}

// maxPrograms is more checks than anybody waits for; grace is how long one that
// is ended may take to do so.
const (
	maxPrograms = 256
	grace       = 2 * time.Second
)

// findPrograms lists the executables in both directories, sorted by name.
func findPrograms(root string) ([]string, error) {
	found := make(map[string]string) // name to path, "" for what is switched off
	for _, dir := range programDirs {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("looking for checks: %w", err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if target, err := os.Readlink(filepath.Join(root, path)); err == nil && target == os.DevNull {
				found[e.Name()] = ""
				continue
			}
			st, err := os.Stat(filepath.Join(root, path))
			if err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
				found[e.Name()] = path
			}
		}
	}
	var list []string
	for _, path := range found {
		if path != "" {
			list = append(list, path)
		}
	}
	if len(list) > maxPrograms {
		return nil, fmt.Errorf("%q and %q hold %d checks, more than %d", programDirs[0], programDirs[1], len(list), maxPrograms)
	}
	slices.SortFunc(list, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
	return list, nil
}

// checkProgram runs a check until ctx is done. What it says is shown when it fails.
func (c *Checker) checkProgram(ctx context.Context, path string) (reason string, lines []string) {
	var said lastWords
	_, err := program.Run(ctx, program.Command{
		// The shell gives it one pipe for both, so that what it says stays in order.
		Args: []string{"/bin/sh", "-c", `exec "$0" 2>&1`, filepath.Join(c.Root, path)},
		Dir:  "/", Stdout: &said, Grace: grace,
	})
	if err == nil {
		return "", nil
	}
	var exit *exec.ExitError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		reason = fmt.Sprintf("it did not end within %s", c.timeout().Round(time.Second))
	case errors.Is(err, exec.ErrWaitDelay):
		reason = "it left a process behind that holds its output"
	case errors.As(err, &exit):
		reason = "it ended with " + exit.String() // "exit status 1", "signal: killed"
	default:
		reason = err.Error()
	}
	return reason, history.Lines(string(said.kept))
}

// lastWords keeps the end of what is written to it.
type lastWords struct{ kept []byte }

const maxWords = 16 << 10 // bytes

func (w *lastWords) Write(p []byte) (int, error) {
	w.kept = append(w.kept, p...)
	if over := len(w.kept) - maxWords; over > 0 {
		w.kept = append(w.kept[:0], w.kept[over:]...)
	}
	return len(p), nil
}
