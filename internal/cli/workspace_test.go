package cli

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// workspaces lists the work directories in out.
func workspaces(t *testing.T, out string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(out, workPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestInterruptedBuildLeavesNothing presses Ctrl-C while the base is fetched.
func TestInterruptedBuildLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "new/out")
	ctx, interrupt := context.WithCancel(context.Background())
	defer interrupt()
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(workspaces(t, out)) != 1 {
			t.Errorf("at work, %q has the directories %q", out, workspaces(t, out))
		}
		interrupt()
		<-r.Context().Done()
	}))
	defer registry.Close()
	recipe := filepath.Join(dir, "small.toml")
	text := "name = \"small\"\nversion = \"1.0.0\"\n[base]\nkind = \"oci\"\nimage = \"" + strings.TrimPrefix(registry.URL, "http://") + "/base:stable\"\n"
	if err := os.WriteFile(recipe, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	code := run(ctx, []string{"build", recipe, "-o", out, "--init", recipe, "--cache", filepath.Join(dir, "cache")},
		&globals{stdout: &bytes.Buffer{}, stderr: &stderr})
	if code != exitInterrupted || !strings.HasSuffix(stderr.String(), "ashlar: interrupted\n") {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "small.toml" {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestKilledBuildIsSwept: the next build removes what a killed one left, and
// leaves alone what another is at work on, and what is not a build's.
func TestKilledBuildIsSwept(t *testing.T) {
	out := t.TempDir()
	running, err := openWorkspace(out)
	if err != nil {
		t.Fatal(err)
	}
	killed := filepath.Join(out, workPrefix+"killed")
	if err := os.MkdirAll(filepath.Join(killed, "objects/ab"), 0o755); err != nil {
		t.Fatal(err)
	}
	link, foreign := filepath.Join(out, workPrefix+"link"), filepath.Join(out, "blobs")
	if err := os.Mkdir(foreign, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(foreign, link); err != nil {
		t.Fatal(err)
	}

	next, err := openWorkspace(out)
	if err != nil {
		t.Fatal(err)
	}
	if next.left == nil {
		t.Error("a link that plays a work directory was followed")
	}
	for path, want := range map[string]bool{killed: false, running.dir: true, next.dir: true, foreign: true, link: true} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%q: %v, want it there: %t", path, err, want)
		}
	}
	for _, w := range []*workspace{running, next} {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}
	if got := workspaces(t, out); len(got) != 1 || got[0] != link {
		t.Errorf("left: %q", got)
	}
	if held, err := lockDir(out, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("the directory is locked still: %v", err)
	} else {
		held.Close()
	}
}
