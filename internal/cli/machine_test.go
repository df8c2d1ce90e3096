package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// fakeMachine is a site and a computer on whose disk the machine's verbs run.
type fakeMachine struct {
	t    *testing.T
	site *updatetest.Site
	c    *updatetest.Computer
}

// newFakeMachine has server-1.0.0 running and following the site.
func newFakeMachine(t *testing.T) (*fakeMachine, *updatetest.Release) {
	t.Helper()
	f := &fakeMachine{t, updatetest.NewSite(t), updatetest.NewComputer(t)}
	v1 := f.publish("1.0.0")
	f.c.Install(v1, store.Origin{Repository: f.site.Repository, Channel: "stable"})
	f.boot(nil)
	return f, v1
}

func (f *fakeMachine) publish(version string) *updatetest.Release {
	f.t.Helper()
	return f.site.Publish(updatetest.Spec{Name: "server", Version: version})
}

// artifact is a release as the site holds it.
func (f *fakeMachine) artifact(version string) *registry.Release {
	f.t.Helper()
	rel, err := f.site.Layout().ReadRelease(context.Background(), version)
	if err != nil {
		f.t.Fatal(err)
	}
	return rel
}

// run runs a verb on the machine.
func (f *fakeMachine) run(args ...string) (stdout, stderr string, code int) {
	f.t.Helper()
	return f.runOn(f.c, args...)
}

func (f *fakeMachine) runOn(c *updatetest.Computer, args ...string) (stdout, stderr string, code int) {
	f.t.Helper()
	f.t.Setenv("ASHLAR_ROOT", c.Root)
	var out, errs bytes.Buffer
	code = run(context.Background(), args, &globals{stdout: &out, stderr: &errs})
	return out.String(), errs.String(), code
}

// ok runs a verb that must succeed, and say what is wanted.
func (f *fakeMachine) ok(want string, args ...string) string {
	f.t.Helper()
	out, errs, code := f.run(args...)
	if code != exitOK || !strings.Contains(out, want) {
		f.t.Errorf("%q: exit code %d, want the words %q\n%s%s", args, code, want, out, errs)
	}
	return out
}

// fails runs a verb that must end with code and a sentence with want in it.
func (f *fakeMachine) fails(code int, want string, args ...string) {
	f.t.Helper()
	out, errs, got := f.run(args...)
	if got != code || !strings.Contains(errs, want) {
		f.t.Errorf("%q: exit code %d, want %d with %q\n%s%s", args, got, code, want, out, errs)
	}
}

// boot turns the machine on and does what its services do then.
func (f *fakeMachine) boot(good func(verity.Digest) bool) {
	f.t.Helper()
	f.c.PowerOn(good)
	f.ok("", "boot-record")
}

func (f *fakeMachine) status() (answer statusAnswer) {
	f.t.Helper()
	f.answer(&answer, "status", "--json")
	return answer
}

// answer reads a verb's JSON, which must have no fields but the documented ones.
func (f *fakeMachine) answer(to any, args ...string) {
	f.t.Helper()
	dec := json.NewDecoder(strings.NewReader(f.ok("", args...)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(to); err != nil {
		f.t.Fatalf("%q: %v", args, err)
	}
}

// boots says that the machine would boot r now, whole.
func (f *fakeMachine) boots(r *updatetest.Release) {
	f.t.Helper()
	if d := f.c.WouldBoot(); d != r.Image() {
		f.t.Errorf("%s boots next, want %s (%q)", d.Short(), r.ID, f.c.BootFiles())
	}
	if err := f.c.Whole(r.Image()); err != nil {
		f.t.Errorf("%s is not whole: %v", r.ID, err)
	}
}

func (f *fakeMachine) write(path, text string) {
	f.t.Helper()
	path = filepath.Join(f.c.Root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fakeMachine) etc(r *updatetest.Release, name string) string {
	return strings.TrimPrefix(filepath.Join(f.c.Etc(r.Image()), name), f.c.Root+"/")
}
