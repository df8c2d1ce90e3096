package update

import (
	"context"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
	"github.com/ashlar-os/ashlar/internal/progress"
)

type roleMap = map[string][]Role

// TestUpdateAndBack is the life of a machine over four releases.
func TestUpdateAndBack(t *testing.T) {
	w, v1 := newWorld(t)
	w.roles(roleMap{"server-1.0.0": {Running, Next}})
	if f := w.check(); f.Verdict != Current || f.Reason != "server-1.0.0 is running" {
		t.Errorf("nothing new: %q %q", f.Verdict, f.Reason)
	}
	w.edit(v1, "local", "mine")

	v2 := w.publish("2.0.0")
	if f := w.check(); f.Verdict != Available || f.Reason != "" {
		t.Errorf("something new: %q %q", f.Verdict, f.Reason)
	}
	w.boots(v1)
	w.stage()
	w.boots(v2)
	w.roles(roleMap{"server-1.0.0": {Running}, "server-2.0.0": {Next, Staged}})
	if f := w.check(); f.Verdict != Waiting {
		t.Errorf("staged: %q %q", f.Verdict, f.Reason)
	}
	w.edit(v1, "late", "changed between staging and boot")

	w.boot(nil)
	w.roles(roleMap{"server-1.0.0": {Previous}, "server-2.0.0": {Running, Next}})
	if w.etc(v2, "local") != "mine" || w.etc(v2, "late") == "" {
		t.Error("/etc was not carried over as it was at the reboot")
	}

	// Back: with the /etc of then, and it sticks.
	w.edit(v2, "local", "changed in 2.0.0")
	w.rollback("")
	w.boots(v1)
	w.roles(roleMap{"server-1.0.0": {Next, Previous}, "server-2.0.0": {Running, Retired}})
	w.boot(nil)
	w.roles(roleMap{"server-1.0.0": {Running, Next}, "server-2.0.0": {Previous, Retired}})
	if w.etc(v1, "local") != "mine" {
		t.Error("going back changed the old /etc")
	}
	if f := w.check(); f.Verdict != WasBack || !strings.Contains(f.Reason, "ashlar rollback 2.0.0 goes forward again") {
		t.Errorf("after going back: %q %q", f.Verdict, f.Reason)
	}
	w.boot(nil)
	w.boots(v1)

	// Forward: with the /etc of 2.0.0, and three tries to prove itself.
	w.rollback("2.0.0")
	w.roles(roleMap{"server-1.0.0": {Running}, "server-2.0.0": {Next, Staged, Previous}})
	w.boot(nil)
	if w.c.Running != v2.Image() || w.etc(v2, "local") != "changed in 2.0.0" {
		t.Error("going forward did not bring 2.0.0 back as it was")
	}

	// One more: the first one goes.
	v3 := w.publish("3.0.0")
	w.update()
	w.boot(nil)
	w.boots(v3)
	w.roles(roleMap{"server-2.0.0": {Previous}, "server-3.0.0": {Running, Next}})
	if err := w.c.Whole(v1.Image()); err == nil {
		t.Error("1.0.0 is still there")
	}
	if n, want := w.c.Objects(), 13+3; n != want {
		t.Errorf("%d objects are left, want %d", n, want)
	}
}

// TestFailedRelease is tried three times, taken back, remembered, and out of the way.
func TestFailedRelease(t *testing.T) {
	w, v1 := newWorld(t)
	v2 := w.publish("2.0.0")
	w.update()
	if d := w.boot(never(v2)); d != v1.Image() {
		t.Fatalf("%s came up", d.Short())
	}
	w.roles(roleMap{"server-1.0.0": {Running, Next}, "server-2.0.0": {Failed}})
	d := w.look().With(Failed)
	if !d.Remembered() || d.tries() != 3 {
		t.Errorf("the memory of 2.0.0: %+v", d)
	}
	if len(w.c.BootFiles()) != 1 || len(w.c.Images()) != 1 {
		t.Errorf("a failed release takes room: %q %q", w.c.BootFiles(), w.c.Images())
	}
	w.gc() // once more does not forget
	if f := w.check(); f.Verdict != HasFailed || !strings.Contains(f.Reason, "in 3 tries") {
		t.Errorf("after it failed: %q %q", f.Verdict, f.Reason)
	}
	if _, err := w.machine().PlanRollback(w.look(), d); err == nil || !strings.Contains(err.Error(), "update --retry") {
		t.Errorf("rolling back to a memory: %v", err)
	}

	// A retry is a first boot: /etc as it is now.
	w.edit(v1, "local", "after the failure")
	w.stage()
	w.roles(roleMap{"server-1.0.0": {Running}, "server-2.0.0": {Next, Staged}})
	w.boot(nil)
	if w.c.Running != v2.Image() || w.etc(v2, "local") != "after the failure" {
		t.Error("the retry did not come up with the /etc of now")
	}

	// A run of bad releases leaves room for the good one.
	bad := []*updatetest.Release{}
	for _, version := range []string{"3.0.0", "3.0.1", "3.0.2", "3.0.3"} {
		bad = append(bad, w.publish(version))
		if v := w.update(); v != Available {
			t.Fatalf("%s: %s", version, v)
		}
		w.boot(never(bad...))
		w.boots(v2)
	}
	if n := len(w.c.BootFiles()); n != 2 { // running and previous
		t.Errorf("%q", w.c.BootFiles())
	}
	w.publish("4.0.0")
	w.update()
	w.boot(never(bad...))
	w.roles(roleMap{"server-2.0.0": {Previous}, "server-4.0.0": {Running, Next}})
}

// TestFailureIsTold: what ashlar-init said last is in the state, on one line.
func TestFailureIsTold(t *testing.T) {
	w, v1 := newWorld(t)
	v2 := w.publish("2.0.0")
	w.update()
	// Its image is damaged on the disk: the first process says so.
	image := w.c.Store().ImagePath(v2.Image())
	w.must(os.Chmod(image, 0o600))
	w.must(os.Truncate(image, 4096))
	if w.c.PowerOn(nil) != v1.Image() {
		t.Fatal("a damaged image came up")
	}
	if d := w.look().With(Failed); d == nil || !strings.Contains(d.Failure, "has the digest") || strings.Contains(d.Failure, "\n") {
		t.Errorf("the failure is %+v", d)
	}
	w.must(w.machine().RecordGoodBoot())
	w.gc()
	if d := w.look().With(Failed); d == nil || d.Failure == "" || !d.Remembered() {
		t.Errorf("after clearing up the failure is %+v", d)
	}
	w.stage()
	w.boot(nil)
	w.boots(v2)
	if d := w.look().Of(v2.Image()); d.Failure != "" {
		t.Errorf("a good boot leaves the failure %q", d.Failure)
	}
}

// TestDamagedLater: a release that was good for long keeps its /etc when it fails,
// a damaged image does not stop clearing up, and staging it again heals it.
func TestDamagedLater(t *testing.T) {
	w, v1 := newWorld(t)
	v2 := w.publish("2.0.0")
	w.update()
	w.boot(nil)
	w.edit(v2, "local", "of 2.0.0")
	image := w.c.Store().ImagePath(v2.Image())
	w.must(os.Chmod(image, 0o600))
	w.must(os.Truncate(image, 4096))
	// ashlar-init counts its boots again (package sysroot).
	e := *w.look().Of(v2.Image()).Entry
	_, err := w.c.ESP().SetCounter(e, 2, 1)
	w.must(err)
	w.boot(nil)
	w.boots(v1)
	w.roles(roleMap{"server-1.0.0": {Running, Next}, "server-2.0.0": {Failed}})
	if w.etc(v2, "local") == "" {
		t.Error("its /etc is gone")
	}
	if s := w.look(); s.With(Previous) != nil {
		t.Errorf("%s failed, and is what a rollback goes to", s.With(Previous).ID())
	}
	w.stage()
	w.boot(nil)
	if w.c.Running != v2.Image() || w.etc(v2, "local") != "of 2.0.0" {
		t.Error("staging it again did not bring it back")
	}
}

// TestSuperseded: what was staged and never booted makes way.
func TestSuperseded(t *testing.T) {
	w, v1 := newWorld(t)
	v2 := w.publish("2.0.0")
	w.update()
	v3 := w.publish("3.0.0")
	w.update()
	w.roles(roleMap{"server-1.0.0": {Running}, "server-3.0.0": {Next, Staged}})
	if err := w.c.Whole(v2.Image()); err == nil {
		t.Error("2.0.0 is still there")
	}
	w.boot(never(v3))
	w.boots(v1)

	// A pinned one stays, out of the loader's way.
	v4 := w.publish("4.0.0")
	w.update()
	w.pin("4.0.0", true)
	v5 := w.publish("5.0.0")
	w.update()
	w.roles(roleMap{
		"server-1.0.0": {Running}, "server-3.0.0": {Failed}, "server-4.0.0": {Retired, Pinned}, "server-5.0.0": {Next, Staged},
	})
	w.boot(never(v5))
	w.boots(v1)
	w.rollback("4.0.0")
	w.boot(nil)
	w.boots(v4)
}

// TestWithdrawn: a channel that goes back before the reboot takes the staged release along.
func TestWithdrawn(t *testing.T) {
	w, _ := newWorld(t)
	v2 := w.publish("2.0.0")
	w.publish("3.0.0")
	w.update()
	w.site.Point("stable", "2.0.0")
	if v := w.update(); v != Available {
		t.Errorf("verdict %s", v)
	}
	w.boots(v2)
	w.roles(roleMap{"server-1.0.0": {Running}, "server-2.0.0": {Next, Staged}})
	w.site.Point("stable", "1.0.0")
	if f := w.check(); f.Verdict != Current {
		t.Errorf("back to what runs: %q", f.Verdict)
	}
}

func TestPins(t *testing.T) {
	w, v1 := newWorld(t)
	w.pin("server-1.0.0", true)
	for _, version := range []string{"2.0.0", "3.0.0"} {
		w.publish(version)
		w.update()
		w.boot(nil)
	}
	w.roles(roleMap{"server-1.0.0": {Pinned}, "server-2.0.0": {Previous}, "server-3.0.0": {Running, Next}})
	w.rollback("1.0.0")
	w.boots(v1)
	w.rollback("3.0.0")
	w.pin(v1.Image().String()[:8], false)
	w.gc()
	w.boot(nil)
	w.roles(roleMap{"server-2.0.0": {Previous, Retired}, "server-3.0.0": {Running, Next}})
}

// TestPinnedThatNeverRan keeps what its first boot needs, and gets the /etc of now.
func TestPinnedThatNeverRan(t *testing.T) {
	w, _ := newWorld(t)
	v2 := w.publish("2.0.0")
	w.update()
	w.pin("2.0.0", true)
	for _, version := range []string{"3.0.0", "4.0.0", "5.0.0"} {
		w.publish(version)
		w.update()
		w.boot(nil)
		if err := w.c.Whole(v2.Image()); err != nil {
			t.Fatalf("after %s the pinned one cannot boot: %v", version, err)
		}
	}
	w.edit(&updatetest.Release{Document: w.document(t)}, "local", "of 5.0.0")
	w.rollback("2.0.0")
	w.boot(nil)
	if w.c.Running != v2.Image() || w.etc(v2, "local") != "of 5.0.0" {
		t.Error("2.0.0 did not come up with the /etc of now")
	}
}

// document is what the channel names.
func (w *world) document(t *testing.T) *release.Document {
	t.Helper()
	f := w.check()
	doc, err := f.document(context.Background())
	w.must(err)
	return doc
}

func TestVerdicts(t *testing.T) {
	w, _ := newWorld(t)
	v2 := w.publish("2.0.0")
	w.update()
	w.boot(nil)
	alien := "arm64"
	if runtime.GOARCH == alien {
		alien = "amd64"
	}
	for _, c := range []struct {
		spec    updatetest.Spec
		verdict Verdict
		reason  string
	}{
		{updatetest.Spec{Name: "server", Version: "1.5.0"}, TooOld, "older than 2.0.0 that runs"},
		{updatetest.Spec{Name: "server", Version: "4.0.0", Change: func(d *release.Document) { d.ReachableFrom = "3.0.0" }},
			TooFar, "can be reached from 3.0.0 or newer, and 2.0.0 runs here"},
		{updatetest.Spec{Name: "server", Version: "4.0.1", Change: func(d *release.Document) { d.ReachableFrom = "2.0.0" }}, Available, ""},
		// Nobody moves the channel of this architecture.
		{updatetest.Spec{Name: "server", Version: "5.0.0", Change: func(d *release.Document) { d.Architecture = alien }}, Available, ""},
	} {
		w.site.Publish(c.spec)
		f := w.check()
		if f.Verdict != c.verdict || !strings.Contains(f.Reason, c.reason) {
			t.Errorf("%s-%s: %q %q", c.spec.Name, c.spec.Version, f.Verdict, f.Reason)
		}
	}
	if f := w.check(); f.Release.Version != "4.0.1" {
		t.Errorf("the channel names %s", f.ID)
	}
	w.boots(v2)
}

// TestSwitch goes to an older release of another image at another place, which
// the machine then follows, and back.
func TestSwitch(t *testing.T) {
	w, v1 := newWorld(t)
	other := updatetest.NewSite(t)
	web := other.Publish(updatetest.Spec{Name: "web", Version: "0.9.0"}) // sorts behind "server"
	m, ctx := w.machine(), context.Background()
	origin := w.origin()
	origin.Repository = other.Repository
	f, err := m.Check(ctx, other.Open(), Wanted{Origin: origin, Switch: true})
	w.must(err)
	plan, err := m.PlanStage(ctx, f, progress.None)
	w.must(err)
	if len(plan.Renames) != 1 {
		t.Errorf("planned renames %v", plan.Renames)
	}
	w.must(m.Stage(ctx, plan, progress.None))
	w.boots(web)
	w.roles(roleMap{"server-1.0.0": {Running, Retired}, "web-0.9.0": {Next, Staged}})

	// The switch stands: the next update asks the new place.
	if d := w.look().Leading(); d.Origin != origin {
		t.Errorf("updates are looked for at %v", d.Origin)
	}
	other.Publish(updatetest.Spec{Name: "web", Version: "0.9.1"})
	f, err = w.machine().Check(ctx, other.Open(), Wanted{Origin: origin})
	w.must(err)
	if f.Verdict != Available {
		t.Errorf("a newer one there: %q %q", f.Verdict, f.Reason)
	}
	w.boot(nil)
	w.roles(roleMap{"server-1.0.0": {Previous, Retired}, "web-0.9.0": {Running, Next}})
	w.rollback("")
	if d := w.look().Leading(); d.Origin != w.origin() {
		t.Errorf("going back goes to %v", d.Origin)
	}
	w.boot(nil)
	w.boots(v1)
	// The same place, without staging anything.
	w.site.Point("edge", "1.0.0")
	origin = store.Origin{Repository: w.site.Repository, Channel: "edge"}
	f, err = w.machine().Check(ctx, w.site.Open(), Wanted{Origin: origin, Switch: true})
	w.must(err)
	w.must(w.machine().Follow(f))
	if d := w.look().With(Running); d.Origin != origin {
		t.Errorf("it follows %v", d.Origin)
	}
}
