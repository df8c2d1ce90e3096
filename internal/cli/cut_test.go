package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// TestKilledAnywhere runs each verb that changes a machine as a process of its
// own and takes the disk before every single change it makes. From each of them
// the machine must boot what it would have booted before, or what was asked for,
// whole; nothing of /etc may be lost; and running the verb again must complete.
func TestKilledAnywhere(t *testing.T) {
	type scene struct {
		before  []*updatetest.Release // that may boot next until it is done, besides what does already
		after   *updatetest.Release   // that boots next when it is done
		args    []string
		minimum int // of changes
	}
	for name, prepare := range map[string]func(f *fakeMachine, v1 *updatetest.Release) scene{
		"update": func(f *fakeMachine, v1 *updatetest.Release) scene {
			f.publish("2.0.0")
			f.ok("staged", "update")
			f.boot(nil)
			return scene{after: f.publish("3.0.0"), args: []string{"update"}, minimum: 15}
		},
		"update that supersedes": func(f *fakeMachine, v1 *updatetest.Release) scene {
			f.publish("2.0.0")
			f.ok("staged", "update")
			return scene{after: f.publish("3.0.0"), args: []string{"update"}, before: []*updatetest.Release{v1}, minimum: 15}
		},
		"retry": func(f *fakeMachine, v1 *updatetest.Release) scene {
			v2 := f.publish("2.0.0")
			f.ok("staged", "update")
			f.boot(func(d verity.Digest) bool { return d != v2.Image() })
			return scene{after: v2, args: []string{"update", "--retry"}, minimum: 15}
		},
		"switch to what sorts behind": func(f *fakeMachine, v1 *updatetest.Release) scene {
			f.publish("2.0.0")
			f.ok("staged", "update")
			f.boot(nil)
			other := updatetest.NewSite(f.t)
			web := other.Publish(updatetest.Spec{Name: "web", Version: "0.1.0"})
			return scene{after: web, before: []*updatetest.Release{v1}, args: []string{"switch", other.Repository + ":stable"}, minimum: 15}
		},
		"switch to the previous one": func(f *fakeMachine, v1 *updatetest.Release) scene {
			f.publish("2.0.0")
			f.ok("staged", "update")
			f.boot(nil)
			return scene{after: v1, args: []string{"switch", f.site.Repository + ":1.0.0"}, minimum: 6}
		},
		"rollback": func(f *fakeMachine, v1 *updatetest.Release) scene {
			v2 := f.publish("2.0.0")
			f.ok("staged", "update")
			f.boot(nil)
			f.publish("3.0.0")
			f.ok("staged", "update")
			return scene{after: v1, before: []*updatetest.Release{v2}, args: []string{"rollback"}, minimum: 3}
		},
		"clearing away": func(f *fakeMachine, v1 *updatetest.Release) scene {
			f.publish("2.0.0")
			f.ok("staged", "update")
			f.boot(nil)
			v3 := f.publish("3.0.0")
			f.ok("staged", "update")
			f.c.PowerOn(nil)
			return scene{after: v3, args: []string{"boot-record"}, minimum: 10}
		},
		"clearing a failure away": func(f *fakeMachine, v1 *updatetest.Release) scene {
			v2 := f.publish("2.0.0")
			f.ok("staged", "update")
			f.c.PowerOn(func(d verity.Digest) bool { return d != v2.Image() })
			return scene{after: v1, args: []string{"boot-record"}, minimum: 10}
		},
	} {
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
			code := updatetest.Trace(t, f.process(s.args...), func() { cuts = append(cuts, f.c.Copy()) })
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
				if out, errs, code := f.runOn(c, s.args...); code != exitOK {
					t.Errorf("cut %d: running it again ends with %d\n%s%s", i, code, out, errs)
				}
				if d := c.WouldBoot(); d != s.after.Image() {
					t.Errorf("cut %d: after running it again %s boots next: %q", i, d.Short(), c.BootFiles())
				}
				if err := c.Whole(s.after.Image()); err != nil {
					t.Errorf("cut %d: after running it again: %v", i, err)
				}
				if left := c.Leftovers(); len(left) > 0 {
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
	self, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = "ashlar"
	cmd.Env = append(os.Environ(), "ASHLAR_ROOT="+f.c.Root, "GOMAXPROCS=2")
	cmd.Stderr = os.Stderr
	return cmd
}
