package update

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// world is a site and a computer that follows it.
type world struct {
	t    *testing.T
	site *updatetest.Site
	c    *updatetest.Computer

	elsewhere bool // the site is not the one that the machine follows
}

// newWorld has server-1.0.0 published, installed and running.
func newWorld(t *testing.T) (*world, *updatetest.Release) {
	w := &world{t: t, site: updatetest.NewSite(t), c: updatetest.NewComputer(t)}
	v1 := w.publish("1.0.0")
	w.c.Install(v1, w.origin())
	w.boot(nil)
	return w, v1
}

func (w *world) origin() store.Origin {
	return store.Origin{Repository: w.site.Repository, Channel: "stable"}
}

func (w *world) wanted() Wanted { return Wanted{Origin: w.origin(), Switch: w.elsewhere} }

func (w *world) publish(version string) *updatetest.Release {
	w.t.Helper()
	return w.site.Publish(updatetest.Spec{Name: "server", Version: version})
}

func (w *world) machine() *Machine { return machineOf(w.c) }

func machineOf(c *updatetest.Computer) *Machine {
	return &Machine{Store: c.Store(), ESP: c.ESP(), Running: c.Running, Root: c.Keys()}
}

func (w *world) look() *State {
	w.t.Helper()
	s, err := w.machine().Look()
	w.must(err)
	return s
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// check asks the channel "stable".
func (w *world) check() *Finding {
	w.t.Helper()
	f, err := w.machine().Check(context.Background(), w.site.Open(), w.wanted())
	w.must(err)
	return f
}

// stage stages what the channel names, whatever the verdict, and clears up.
func (w *world) stage() {
	w.t.Helper()
	m := w.machine()
	w.must(m.Prepare())
	w.must(w.tryStage(m))
	w.gc()
}

func (w *world) tryStage(m *Machine) error {
	w.t.Helper()
	ctx := context.Background()
	f, err := m.Check(ctx, w.site.Open(), w.wanted())
	w.must(err)
	plan, err := m.PlanStage(ctx, f, progress.None)
	if err != nil {
		return err
	}
	return m.Stage(ctx, plan, progress.None)
}

// update stages what the channel names if a service would.
func (w *world) update() Verdict {
	w.t.Helper()
	f := w.check()
	if f.Verdict == Available {
		w.stage()
	}
	return f.Verdict
}

// boot turns the computer on; what comes up records it.
func (w *world) boot(good func(verity.Digest) bool) verity.Digest {
	w.t.Helper()
	d := w.c.PowerOn(good)
	w.must(w.machine().RecordGoodBoot())
	w.gc()
	return d
}

func (w *world) gc() *GCPlan {
	w.t.Helper()
	m, ctx := w.machine(), context.Background()
	plan, err := m.PlanGC(ctx)
	w.must(err)
	w.must(m.GC(ctx, plan))
	return plan
}

// rollback goes to the deployment that word names, or the previous one.
func (w *world) rollback(word string) {
	w.t.Helper()
	m, s := w.machine(), w.look()
	var target *Deployment
	if word != "" {
		var err error
		target, err = s.Find(word)
		w.must(err)
	}
	plan, err := m.PlanRollback(s, target)
	w.must(err)
	w.must(m.Rollback(plan))
}

func (w *world) pin(word string, pinned bool) {
	w.t.Helper()
	d, err := w.look().Find(word)
	w.must(err)
	w.must(w.machine().SetPinned(d, pinned))
}

// edit changes a file in a deployment's /etc.
func (w *world) edit(r *updatetest.Release, name, text string) {
	w.t.Helper()
	w.must(os.WriteFile(filepath.Join(w.c.Etc(r.Image()), name), []byte(text), 0o644))
}

func (w *world) etc(r *updatetest.Release, name string) string {
	b, err := os.ReadFile(filepath.Join(w.c.Etc(r.Image()), name))
	if err != nil {
		return ""
	}
	return string(b)
}

// roles compares the roles of every deployment that is here.
func (w *world) roles(want map[string][]Role) {
	w.t.Helper()
	s := w.look()
	got := make(map[string]bool)
	for i := range s.Deployments {
		d := &s.Deployments[i]
		got[d.ID()] = true
		roles, ok := want[d.ID()]
		if !ok {
			w.t.Errorf("%s is here, with the roles %q", d.ID(), d.Roles)
			continue
		}
		for _, r := range roles {
			if !d.Is(r) {
				w.t.Errorf("%s is not %s but %q", d.ID(), r, d.Roles)
			}
		}
		if len(d.Roles) != len(roles) {
			w.t.Errorf("%s is %q, want %q", d.ID(), d.Roles, roles)
		}
	}
	for id := range want {
		if !got[id] {
			w.t.Errorf("%s is not here", id)
		}
	}
}

// boots says that the computer would boot r now, whole.
func (w *world) boots(r *updatetest.Release) {
	w.t.Helper()
	if d := w.c.WouldBoot(); d != r.Image() {
		w.t.Errorf("%s boots next, want %s (%q)", d.Short(), r.ID, w.c.BootFiles())
	}
	if err := w.c.Whole(r.Image()); err != nil {
		w.t.Errorf("%s is not whole: %v", r.ID, err)
	}
}

// never is a computer on which these releases do not come up.
func never(bad ...*updatetest.Release) func(verity.Digest) bool {
	return func(d verity.Digest) bool {
		for _, r := range bad {
			if r.Image() == d {
				return false
			}
		}
		return true
	}
}
