package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/crashtest"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// TestKilledAnywhere runs each verb that changes a machine as a process of its
// own and takes the disk before every single change it makes. From each of them
// the machine must boot what it would have booted before, or what was asked for,
// whole; nothing of /etc may be lost; a clean-up leaves nothing that the verb was
// at; and running the verb again must complete.
func TestKilledAnywhere(t *testing.T) {
	for name, prepare := range scenes {
		t.Run(name, func(t *testing.T) {
			f, v1 := newFakeMachine(t)
			s := prepare(f, v1)
			running := f.c.Running
			keep := filepath.Join(f.c.Etc(running), "local")
			if err := os.WriteFile(keep, []byte("mine"), 0o644); err != nil {
				t.Fatal(err)
			}
			allowed := map[verity.Digest]bool{f.c.WouldBoot(): true, running: true, s.after.Image(): true}
			for _, r := range s.before {
				allowed[r.Image()] = true
			}
			var cuts []*updatetest.Computer
			code := crashtest.Trace(t, f.process(s.args...), func() { cuts = append(cuts, f.c.Copy()) })
			if code != exitOK || len(cuts) < s.minimum {
				t.Fatalf("%q ended with %d after %d changes", s.args, code, len(cuts))
			}
			f.boots(s.after)
			t.Logf("%d changes", len(cuts))
			for i, c := range cuts {
				next := c.WouldBoot()
				if !allowed[next] {
					t.Errorf("cut %d: %s boots next: %q", i, next.Short(), c.BootFiles())
				}
				for _, d := range []verity.Digest{next, running} {
					if err := c.Whole(d); err != nil {
						t.Errorf("cut %d: not whole: %v", i, err)
					}
				}
				if _, err := os.Stat(filepath.Join(c.Etc(running), "local")); err != nil {
					t.Errorf("cut %d: %v", i, err)
				}
				cleared := c.Copy()
				if out, errs, code := f.runOn(cleared, "gc"); code != exitOK {
					t.Errorf("cut %d: gc ends with %d\n%s%s", i, code, out, errs)
				}
				left := append(cleared.Leftovers(), strangers(t, filepath.Join(cleared.Root, "sysroot/ashlar"))...)
				if d := cleared.WouldBoot(); len(left) > 0 || !allowed[d] || cleared.Whole(d) != nil {
					t.Errorf("cut %d: after a clean-up %s boots next, and there are %q", i, d.Short(), left)
				}
				if out, errs, code := f.runOn(c, s.args...); code != exitOK {
					t.Errorf("cut %d: running it again ends with %d\n%s%s", i, code, out, errs)
				}
				if d := c.WouldBoot(); d != s.after.Image() {
					t.Errorf("cut %d: after running it again %s boots next: %q", i, d.Short(), c.BootFiles())
				}
				if err := c.Whole(s.after.Image()); err != nil {
					t.Errorf("cut %d: after running it again: %v", i, err)
				}
				if left := append(c.Leftovers(), strangers(t, filepath.Join(c.Root, "sysroot/ashlar"))...); len(left) > 0 {
					t.Errorf("cut %d: it leaves %q", i, left)
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

// process is a verb as a process of its own; see TestMain.
func (f *fakeMachine) process(args ...string) *exec.Cmd {
	f.t.Helper()
	return f.processOn(f.c, args...)
}

func (f *fakeMachine) processOn(c *updatetest.Computer, args ...string) *exec.Cmd {
	f.t.Helper()
	self, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = "ashlar"
	cmd.Env = append(os.Environ(), "ASHLAR_ROOT="+c.Root, "GOMAXPROCS=2")
	cmd.Stderr = os.Stderr
	return cmd
}
