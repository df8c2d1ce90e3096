package cli

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// spoil changes the last byte of a file, as a disk might.
func (f *fakeMachine) spoil(path string) {
	f.t.Helper()
	b, err := os.ReadFile(path)
	must(f.t, err)
	b[len(b)-1] ^= 1
	must(f.t, os.Chmod(path, 0o600))
	must(f.t, os.WriteFile(path, b, 0o600))
}

// object is where the content of a release's file is.
func (f *fakeMachine) object(r *updatetest.Release, name string) string {
	f.t.Helper()
	image, err := composefs.ReadBytes(r.EROFS)
	must(f.t, err)
	return f.c.Store().ObjectPath(image.Lookup(name).Digest)
}

func (f *fakeMachine) bootFile(r *updatetest.Release) string {
	f.t.Helper()
	list, err := filepath.Glob(filepath.Join(f.c.Root, "efi/EFI/Linux/ashlar_*"+r.Image().String()[:12]+"*.efi"))
	must(f.t, err)
	if len(list) != 1 {
		f.t.Fatalf("%s has the boot files %q", r.ID, list)
	}
	return list[0]
}

// TestRepair: each thing that can be damaged or missing is named, fetched again
// with --repair, and good then; what boots next stays what it was.
func TestRepair(t *testing.T) {
	f, v1 := newFakeMachine(t)
	v2 := f.publish("2.0.0")
	f.ok("staged", "update")
	f.boot(nil)
	store := f.c.Store()
	own, shared := f.object(v2, "/usr/lib/file00"), f.object(v2, "/usr/lib/file01")
	if own == shared || shared != f.object(v1, "/usr/lib/file01") {
		t.Fatal("the releases do not share what this test thinks")
	}
	remove := func(path string) { must(t, os.Remove(path)) }
	for _, c := range []struct {
		what   string
		damage func()
		said   string // without --repair
		done   string
	}{
		{"an object of the running system", func() { f.spoil(own) }, "/usr/lib/file00", "repaired server-2.0.0: 1 object fetched again"},
		{"objects, of both", func() { f.spoil(own); remove(shared) }, "missing", "repaired server-2.0.0: 2 objects fetched again"},
		{"an object of the previous one", func() { remove(f.object(v1, "/usr/lib/file00")) }, "missing", "repaired server-1.0.0: 1 object fetched again"},
		{"the running image", func() { f.spoil(store.ImagePath(v2.Image())) }, "damaged image", "repaired server-2.0.0: its image fetched again"},
		{"an image and its objects", func() {
			remove(store.ImagePath(v1.Image()))
			remove(f.object(v1, "/usr/lib/file00"))
			f.spoil(f.object(v1, "/usr/lib/file04"))
		}, "damaged image", "repaired server-1.0.0: 2 objects fetched again"},
		{"the running boot file", func() { f.spoil(f.bootFile(v2)) }, "is not the one of server-2.0.0", "repaired server-2.0.0: its boot file \"ashlar_2.0.0_"},
		{"the previous boot file", func() { must(t, os.WriteFile(f.bootFile(v1), nil, 0o644)) }, "", "repaired server-1.0.0: its boot file \"ashlar_1.0.0_"},
		{"no running boot file", func() { remove(f.bootFile(v2)) }, "server-2.0.0 has no boot file on the ESP any more", "repaired server-2.0.0: its boot file \"ashlar_2.0.0_"},
		{"no previous boot file", func() { remove(f.bootFile(v1)) }, "server-1.0.0 has no boot file on the ESP any more", "repaired server-1.0.0: its boot file \"ashlar_1.0.0_"},
	} {
		c.damage()
		text, _, code := f.run("verify")
		if code != exitDamaged || !strings.Contains(text, c.said) {
			t.Errorf("%s: %d\n%s", c.what, code, text)
		}
		// Clearing up, which the timer may do first, must not give up what is wanted.
		if _, errs, code := f.run("gc"); code != exitOK && !strings.Contains(errs, "cannot be read") {
			t.Errorf("%s: gc ends with %d\n%s", c.what, code, errs)
		}
		text, errs, code := f.run("verify", "--repair")
		if code != exitOK || !strings.Contains(text, c.done) {
			t.Errorf("%s: repairing ends with %d\n%s%s", c.what, code, text, errs)
		}
		f.ok("good: 2 images", "verify")
		f.boots(v2)
		must(t, f.c.Whole(v1.Image()))
		if left := f.c.Leftovers(); len(left) > 0 {
			t.Errorf("%s: it leaves %q", c.what, left)
		}
	}
	var answer verifyAnswer
	f.spoil(own)
	f.answer(&answer, "verify", "--repair", "--json")
	if !answer.Good || len(answer.Repaired) != 1 || answer.Repaired[0].Image != v2.Image() || len(answer.Repaired[0].Objects) != 1 {
		t.Errorf("%+v", answer.Repaired)
	}
}

// TestRepairOfARetiredOne: the boot file of what the machine was rolled back from
// comes back behind the others.
func TestRepairOfARetiredOne(t *testing.T) {
	f, v1 := newFakeMachine(t)
	v2 := f.publish("2.0.0")
	f.ok("staged", "update")
	f.boot(nil)
	f.ok("boots next", "rollback")
	must(t, os.Remove(f.bootFile(v2)))
	f.boot(nil)
	f.ok("server-2.0.0: its boot file is not on the ESP any more", "status")
	f.fails(exitError, "server-2.0.0 has no boot file on the ESP any more; ashlar verify --repair fetches it again", "rollback")
	f.ok("+0.efi", "verify", "--repair")
	f.boots(v1)
	f.ok("server-2.0.0 boots next", "rollback", "2.0.0")
	f.boots(v2)
}

// TestRepairRefused: what cannot be fetched, or is not what it must be, is said
// in a sentence, and changes nothing.
func TestRepairRefused(t *testing.T) {
	f, v1 := newFakeMachine(t)
	victim := f.object(v1, "/usr/lib/file00")
	f.spoil(victim)
	damaged, err := os.ReadFile(victim)
	must(t, err)
	refused := func(want string) {
		t.Helper()
		text, errs, code := f.run("verify", "--repair", "--quiet")
		if code != exitDamaged || !strings.Contains(errs, want) || strings.Count(errs, "\n") > 2 || !strings.Contains(text, "NOT GOOD") {
			t.Errorf("%d, want %q\n%s%s", code, want, text, errs)
		}
		if b, err := os.ReadFile(victim); err != nil || string(b) != string(damaged) {
			t.Errorf("the damaged object was changed: %v", err)
		}
		if left := f.c.Leftovers(); len(left) > 0 {
			t.Errorf("it leaves %q", left)
		}
	}
	// The repository has another 1.0.0.
	other := updatetest.NewSite(t)
	other.Publish(updatetest.Spec{Name: "server", Version: "1.0.0", Large: 10})
	dep, err := f.c.Store().Deployment(v1.Image())
	must(t, err)
	dep.Origin.Repository = other.Repository
	must(t, f.c.Store().WriteDeployment(dep))
	refused("no release of server (amd64) with the document " + dep.Release + " is signed in this repository")

	alone, _ := newFakeMachine(t)
	alone.spoil(alone.object(v1, "/usr/lib/file00"))
	alone.site.Before = func(*http.Request) { panic(http.ErrAbortHandler) }
	if _, errs, code := alone.run("verify", "--repair", "--quiet"); code != exitDamaged || !strings.HasPrefix(errs, "ashlar: cannot repair server-1.0.0: ") {
		t.Errorf("nobody to ask: %d\n%s", code, errs)
	}
	alone.site.Before = nil
	alone.ok("repaired server-1.0.0: 1 object fetched again", "verify", "--repair")
}
