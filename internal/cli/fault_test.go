package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/crashtest"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// oneError is what a verb that failed may say: one sentence, and what may help.
var oneError = regexp.MustCompile(`^ashlar: [^\n]+\n(ashlar: hint: [^\n]+\n)?$`)

// TestFailingDisk lets every change and every flush that a verb makes fail, one
// after the other: once, as a bad sector does; from there on for ever, as a disk
// that is gone; and everything that takes room, as a full one. Each time the verb
// says in one sentence what happened, or gets by; the machine boots what it would
// have booted, or what was asked for, whole; and when the disk is well again the
// verb finishes, and leaves nothing behind.
func TestFailingDisk(t *testing.T) {
	room := []crashtest.Kind{crashtest.Create, crashtest.Mkdir, crashtest.Write}
	faults := []struct {
		what  string
		fault crashtest.Fault
		step  int // every how many operations it is tried
	}{
		{"an I/O error", crashtest.Fault{Errno: syscall.EIO}, 1},
		{"a disk that is gone", crashtest.Fault{Errno: syscall.EIO, Stays: true}, 5},
		{"a full store", crashtest.Fault{Below: "sysroot", Kinds: room, Errno: syscall.ENOSPC, Stays: true}, 2},
		{"a full ESP", crashtest.Fault{Below: "efi", Kinds: room, Errno: syscall.ENOSPC, Stays: true}, 2},
		{"a read-only ESP", crashtest.Fault{Below: "efi", Errno: syscall.EROFS, Stays: true}, 100},
	}
	tried, failed := 0, 0
	for _, name := range []string{"update that supersedes", "rollback", "clearing away"} {
		t.Run(name, func(t *testing.T) {
			f, v1 := newFakeMachine(t)
			d := &failingDisk{t: t, f: f, s: scenes[name](f, v1)}
			d.begin()
			for _, c := range faults {
				for at := 0; d.try(c.what, c.fault, at); at += c.step {
				}
			}
			t.Logf("%d faults, of which %d were errors", d.tried, d.failed)
			tried, failed = tried+d.tried, failed+d.failed
		})
	}
	t.Logf("all: %d faults injected, %d of them errors to the person", tried, failed)
}

type failingDisk struct {
	t             *testing.T
	f             *fakeMachine
	s             scene
	running       verity.Digest
	allowed       map[verity.Digest]bool
	tried, failed int
}

func (d *failingDisk) begin() {
	d.running = d.f.c.Running
	d.allowed = map[verity.Digest]bool{d.f.c.WouldBoot(): true, d.running: true, d.s.after.Image(): true}
	for _, r := range d.s.before {
		d.allowed[r.Image()] = true
	}
	must(d.t, os.WriteFile(filepath.Join(d.f.c.Etc(d.running), "local"), []byte("mine"), 0o644))
}

// try lets one call fail and looks; it returns false when the verb made no such
// call any more.
func (d *failingDisk) try(what string, fault crashtest.Fault, at int) bool {
	d.t.Helper()
	fault.At = at
	c := d.f.c.Copy()
	cmd := d.f.processOn(c, append(d.s.args, "--quiet")...)
	stderr, err := os.Create(filepath.Join(d.t.TempDir(), "stderr"))
	must(d.t, err)
	defer stderr.Close()
	cmd.Stderr = stderr
	code := crashtest.Inject(d.t, cmd, c.Root, &fault)
	if fault.Hits == 0 {
		return false
	}
	said, err := os.ReadFile(stderr.Name())
	must(d.t, err)
	d.tried++
	where := fmt.Sprintf("%s at operation %d", what, at)
	switch {
	case code == exitOK && len(said) == 0:
	case code == exitError && oneError.Match(said):
		d.failed++
	default:
		d.t.Errorf("%s: it ends with %d, and says\n%s", where, code, said)
	}
	d.judge(where, c, code)
	if out, errs, code := d.f.runOn(c, d.s.args...); code != exitOK {
		d.t.Errorf("%s: the next run ends with %d\n%s%s", where, code, out, errs)
	}
	if next := c.WouldBoot(); next != d.s.after.Image() {
		d.t.Errorf("%s: after the next run %s boots next: %q", where, next.Short(), c.BootFiles())
	}
	if err := c.Whole(d.s.after.Image()); err != nil {
		d.t.Errorf("%s: after the next run: %v", where, err)
	}
	if left := c.Leftovers(); len(left) > 0 {
		d.t.Errorf("%s: the next run leaves %q", where, left)
	}
	must(d.t, os.RemoveAll(c.Root))
	return true
}

// judge looks at the machine as the fault left it.
func (d *failingDisk) judge(where string, c *updatetest.Computer, code int) {
	d.t.Helper()
	next := c.WouldBoot()
	if !d.allowed[next] || code == exitOK && next != d.s.after.Image() {
		d.t.Errorf("%s: it ends with %d, and %s boots next: %q", where, code, next.Short(), c.BootFiles())
	}
	for _, image := range []verity.Digest{next, d.running} {
		if err := c.Whole(image); err != nil {
			d.t.Errorf("%s: not whole: %v", where, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(c.Etc(d.running), "local")); err != nil || strings.TrimSpace(string(b)) != "mine" {
		d.t.Errorf("%s: /etc of what runs: %q, %v", where, b, err)
	}
}
