//go:build vm

// Package vm holds the stories that need a real kernel, firmware and systemd.
//
// One image is built, and one machine made from it boots once, which seals its
// disk. Every story starts from a copy of that disk, so that only its own
// boots cost time. The consoles' logs stay in .cache/stories.
package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/vmtest"
	"github.com/ashlar-os/ashlar/test/fixture"
)

// What TestMain prepared.
var (
	fx     *fixture.Fixture
	sealed string // disk of release 1.0.0, booted once
)

func TestMain(m *testing.M) { os.Exit(prepareAndRun(m)) }

func prepareAndRun(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	if err := prepare(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "preparing the stories:", err)
		return 1
	}
	return m.Run()
}

func prepare(ctx context.Context) (err error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	if fx, err = fixture.New(root, "stories", os.Stderr); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{fx.Build, fx.MakeDisk, sealDisk} {
		began := time.Now()
		if err := step(ctx); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "prepared in %s\n", time.Since(began).Round(time.Second))
	}
	return nil
}

// sealDisk boots the new disk once, so that the stories need not.
func sealDisk(ctx context.Context) (err error) {
	sealed, err = fx.Seal(ctx)
	return err
}

// waitUp waits until systemd has finished its start, whatever came of it, and
// until the good boot was recorded.
const waitUp = `systemctl is-system-running --wait >/dev/null; systemctl is-system-running; systemctl --failed --no-legend --plain`

// machine is a VM with what stories ask of it over and over.
type machine struct {
	*vmtest.VM
	t *testing.T
}

// newMachine makes a VM from disk. Its log is named after the story.
func newMachine(t *testing.T, disk, name string) *machine {
	t.Helper()
	dir := filepath.Join(fx.Dir, t.Name(), name)
	return &machine{VM: vmtest.New(t, vmtest.Config{Name: name, Dir: dir, Base: disk}), t: t}
}

// limit is how long one step in a VM may take.
const limit = 6 * time.Minute

func stepContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), limit)
}

// step runs one step of a story with a limit and fails the story with it.
func (m *machine) step(what string, fn func(context.Context) error) {
	m.t.Helper()
	ctx, cancel := stepContext()
	defer cancel()
	if err := fn(ctx); err != nil {
		m.t.Fatalf("%s: %v (console: %s)", what, err, m.Log)
	}
}

// boot starts the machine and waits until systemd is up with no failed unit.
func (m *machine) boot() {
	m.t.Helper()
	m.step("boot", m.Boot)
	m.expectUp()
}

func (m *machine) expectUp() {
	m.t.Helper()
	if got := m.sh(waitUp); got != "running" {
		m.t.Fatalf("systemd is not up: %s (console: %s)", got, m.Log)
	}
}

func (m *machine) reboot() {
	m.t.Helper()
	m.step("reboot", m.Reboot)
	m.expectUp()
}

// rebootWith runs a command that restarts the machine.
func (m *machine) rebootWith(script string) {
	m.t.Helper()
	m.step(script, func(ctx context.Context) error { return m.RebootWith(ctx, script) })
	m.expectUp()
}

// sh runs a script that must succeed, and returns what it printed.
func (m *machine) sh(script string) string {
	m.t.Helper()
	var out string
	m.step(script, func(ctx context.Context) (err error) {
		out, err = m.Output(ctx, script)
		return err
	})
	return out
}

// fails runs a script that must fail, and returns all it said.
func (m *machine) fails(script string) string {
	m.t.Helper()
	var said string
	m.step(script, func(ctx context.Context) error {
		r, err := m.Run(ctx, script)
		said = r.Stdout + r.Stderr
		if err == nil && r.Code == 0 {
			err = fmt.Errorf("it succeeded: %s", said)
		}
		return err
	})
	return said
}

// status is what stories need of `ashlar status --json`.
type status struct {
	Running     string
	Sealed      bool
	Next        struct{ ID, Image, Why string }
	Deployments []struct {
		ID, Name, Version, Image string
		Roles                    []string
	}
}

func (m *machine) status() status {
	m.t.Helper()
	var s status
	if err := json.Unmarshal([]byte(m.sh("ashlar status --json")), &s); err != nil {
		m.t.Fatalf("ashlar status --json: %v", err)
	}
	return s
}

// version is the release that runs, as /usr says and not the agent.
func (m *machine) version() string {
	m.t.Helper()
	return m.sh(`. /usr/lib/os-release; echo "$IMAGE_VERSION"`)
}

func (m *machine) expect(what, got, want string) {
	m.t.Helper()
	if got != want {
		m.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func (m *machine) expectContains(what, got, want string) {
	m.t.Helper()
	if !strings.Contains(got, want) {
		m.t.Errorf("%s: %q is not in:\n%s", what, want, got)
	}
}

// lines returns the lines of s without empty ones.
func lines(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == '\n' })
}
