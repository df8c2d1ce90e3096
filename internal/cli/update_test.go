package cli

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// TestMachineVerbs is a session on a machine: what each verb says.
func TestMachineVerbs(t *testing.T) {
	f, v1 := newFakeMachine(t)
	f.ok("nothing to do: server-1.0.0 is running\n", "update")
	v2 := f.publish("2.0.0")
	f.ok("server-2.0.0 is available; ashlar update stages it\n", "update", "--check")
	f.ok("nothing was changed (--dry-run)\n", "update", "--dry-run")
	f.boots(v1)
	if left := f.c.Leftovers(); len(left) > 0 {
		t.Errorf("a dry run leaves %q", left)
	}
	var up updateAnswer
	f.answer(&up, "update", "--json")
	if up.Schema != 1 || up.ID != "server-2.0.0" || !up.Staged || up.Verdict != update.Available || up.Plan.Missing != 3 || up.Plan.Objects != 13 {
		t.Errorf("update --json: %+v, %+v", up, up.Plan)
	}
	f.boots(v2)
	f.ok("nothing to do: server-2.0.0 is staged and boots next\n", "update")
	f.publish("2.1.0")
	f.ok("it replaces server-2.0.0, which was staged and has not booted\n", "update", "--dry-run")
	f.site.Point("stable", "2.0.0")

	text := f.ok("server-2.0.0", "status")
	for _, want := range []string{
		"server-1.0.0  " + v1.Image().Short() + "  running",
		"server-2.0.0  " + v2.Image().Short() + "  next, staged",
		f.site.Repository + ":stable",
		"next boot   server-2.0.0: it is the newest; it has 3 tries to prove itself",
		"signatures  server-2.0.0, server-1.0.0: verified (targets key ",
		"root        sealed",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("status does not say %q:\n%s", want, text)
		}
	}
	f.boot(nil)

	f.ok("nothing was changed (--dry-run)", "rollback", "--dry-run")
	f.boots(v2)
	f.ok("server-1.0.0 boots next\n", "rollback")
	f.boots(v1)
	f.boot(nil)
	f.ok("nothing to do: this machine was rolled back from server-2.0.0; ashlar rollback 2.0.0 goes forward again\n", "update")
	var back struct {
		From, To string
		Image    verity.Digest
		Target   map[string]any
		Renames  []map[string]string
	}
	f.answer(&back, "rollback", "server-2.0.0", "--json")
	if back.From != "server-1.0.0" || back.To != "server-2.0.0" || back.Image != v2.Image() || len(back.Renames) != 1 {
		t.Errorf("rollback --json: %+v", back)
	}
	f.fails(exitError, `no deployment here is "7.0.0"; ashlar status lists them`, "rollback", "7.0.0")

	var pin pinAnswer
	f.answer(&pin, "pin", "1.0.0", "--json")
	if pin != (pinAnswer{"server-1.0.0", true}) {
		t.Errorf("pin --json: %+v", pin)
	}
	f.boot(nil)
	f.ok("server-1.0.0 is not pinned\n", "unpin", "server-1.0.0")
	f.ok("would remove 0 images and 0 objects", "gc", "--dry-run")
	var gc update.GCPlan
	f.answer(&gc, "gc", "--json")
	if !gc.Empty() || len(gc.Kept) != 2 {
		t.Errorf("gc --json: %+v", gc)
	}
	var verified verifyAnswer
	f.answer(&verified, "verify", "--json")
	if !verified.Good || verified.Objects != 16 || len(verified.Signatures) != 2 || verified.Signatures[0].State != update.Verified || len(verified.Images) != 2 {
		t.Errorf("verify --json: %+v", verified)
	}
}

// TestStatusOfTrouble: failures with their reasons, strangers, what cannot be
// read, and a machine that follows nothing.
func TestStatusOfTrouble(t *testing.T) {
	f, v1 := newFakeMachine(t)
	v2 := f.publish("2.0.0")
	f.ok("staged", "update")
	f.c.PowerOn(func(d verity.Digest) bool { return d != v2.Image() })
	f.ok("failed      server-2.0.0: its system started, but was not found good\n", "status")
	f.write("sysroot/ashlar/deployments/"+v2.Image().String()+"/failure", "no disk\x1b[2J appeared\nhere\n")
	f.write("sysroot/ashlar/deployments/"+strings.Repeat("0", 62)+"aa/deployment.json", "{}")
	f.write("efi/EFI/Linux/zz.efi", "not a program")
	text := f.ok("failed      server-2.0.0: no disk [2J appeared here\n", "status")
	for _, want := range []string{"broken      deployment 000000000000: ", `foreign     boot file "zz.efi" is not Ashlar's and is left alone`} {
		if !strings.Contains(text, want) {
			t.Errorf("status does not say %q:\n%s", want, text)
		}
	}
	s := f.status()
	i := slices.IndexFunc(s.Deployments, func(d statusDeployment) bool { return d.ID == "server-2.0.0" })
	if d := s.Deployments[i]; !slices.Contains(d.Roles, update.Failed) || d.Failure == "" || d.TriesLeft != 0 {
		t.Errorf("status --json: %+v", d)
	}
	f.ok("nothing to do: server-2.0.0 did not come up here in 3 tries; ashlar update --retry 2.0.0 tries it again\n", "update")
	f.fails(exitUsage, "a version is named with --retry or --to", "update", "2.0.0")
	f.fails(exitUsage, "--retry 2.0.0 and --to 1.0.0 are two releases", "update", "--retry", "2.0.0", "--to", "1.0.0")
	f.ok("server-2.0.0: ", "update", "--retry", "2.0.0", "--dry-run")
	f.ok("server-2.0.0 is staged and boots next", "update", "--retry")
	f.boots(v2)

	alone := updatetest.NewComputer(t)
	alone.Install(v1, store.Origin{})
	alone.PowerOn(nil)
	out, errs, code := f.runOn(alone, "status")
	if code != exitOK || !strings.Contains(out, "follows no repository") {
		t.Errorf("status without a repository: %d\n%s%s", code, out, errs)
	}
	// The service that asks after every boot must not fail for that.
	out, errs, code = f.runOn(alone, "update")
	if code != exitOK || out != "nothing to do: server-1.0.0 follows no repository; ashlar switch REPOSITORY:CHANNEL names one\n" {
		t.Errorf("update without a repository: %d\n%s%s", code, out, errs)
	}
	out, _, code = f.runOn(alone, "update", "--check", "--json")
	if code != exitOK || !strings.Contains(out, `"verdict": "no-repository"`) {
		t.Errorf("update --check --json without a repository: %d\n%s", code, out)
	}
}

// TestNoMachine: a computer that Ashlar did not install is told so.
func TestNoMachine(t *testing.T) {
	t.Setenv("ASHLAR_ROOT", t.TempDir())
	for _, args := range [][]string{
		{"status"}, {"update"}, {"update", "--check"}, {"switch", "127.0.0.1:1/x"}, {"rollback"}, {"pin", "1"}, {"unpin", "1"},
		{"gc"}, {"verify"}, {"etc", "diff"}, {"etc", "reset", "/etc/x"}, {"boot-record"},
	} {
		if out, errs, code := ashlar(t, args...); code != exitError || out != "" || !strings.HasPrefix(errs, "ashlar: this computer is not an Ashlar machine: ") {
			t.Errorf("%q: %d\n%s%s", args, code, out, errs)
		}
	}
}

// TestTwoAtOnce: the second is told who is at work, with an exit code of its own;
// recording a boot waits for nobody, and is made up for.
func TestTwoAtOnce(t *testing.T) {
	f, _ := newFakeMachine(t)
	f.publish("2.0.0")
	f.ok("staged", "update")
	f.c.PowerOn(nil)
	f.publish("3.0.0")
	held, release := make(chan struct{}), make(chan struct{})
	// The check takes no lock; what fetches the image holds it.
	var fetched atomic.Bool
	image := f.artifact("3.0.0").EROFS.Digest.String()
	f.site.Before = func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, image) && fetched.CompareAndSwap(false, true) {
			close(held)
			<-release
		}
	}
	ended := make(chan error, 1)
	var said bytes.Buffer
	cmd := f.process("update")
	cmd.Stdout = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- cmd.Wait() }()
	<-held
	for _, args := range [][]string{{"update"}, {"rollback"}, {"gc"}, {"pin", "2.0.0"}, {"switch", f.site.Repository}, {"etc", "reset", "/etc/x"}} {
		f.fails(exitBusy, `another ashlar is at work: "update", process `, args...)
	}
	f.ok("not recorded now: another ashlar is at work", "boot-record")
	f.ok("server-2.0.0", "status") // looks without the lock
	f.ok("server-3.0.0 is available", "update", "--check")
	f.site.Point("stable", "2.0.0")
	f.ok("nothing to do: server-2.0.0 is running", "update") // and so does a check that finds nothing
	close(release)
	if err := <-ended; err != nil || !strings.Contains(said.String(), "server-3.0.0 is staged") {
		t.Errorf("the first: %v\n%s", err, said.String())
	}
	f.boot(nil)
	s := f.status()
	for _, d := range s.Deployments {
		if d.Version == "2.0.0" && !slices.Contains(d.Roles, update.Previous) {
			t.Errorf("the good boot of 2.0.0 was forgotten: %q", d.Roles)
		}
	}
}

// TestSwitchVerb: a switch stands until its first boot, whatever the timer asks;
// switching to what is here already only changes what is followed.
func TestSwitchVerb(t *testing.T) {
	f, _ := newFakeMachine(t)
	other := updatetest.NewSite(t)
	old := other.Publish(updatetest.Spec{Name: "server", Version: "0.5.0"})
	f.publish("2.0.0")
	f.ok("server-0.5.0 is staged and boots next", "switch", other.Repository)
	f.boots(old)
	f.ok("nothing to do: server-0.5.0 is staged and boots next\n", "update")
	f.boot(nil)
	f.ok("nothing to do: server-0.5.0 is running\n", "update")

	other.Publish(updatetest.Spec{Name: "server", Version: "0.6.0", Channels: []string{"testing"}})
	other.Point("edge", "0.5.0")
	f.ok("nothing to do: server-0.5.0 is running; it follows "+other.Repository+":edge\n", "switch", other.Repository+":edge")
	f.ok("nothing to do", "update", "--check")
	if d := f.status().Deployments; d[len(d)-1].Origin.Channel != "edge" {
		t.Errorf("%+v", d)
	}
	f.ok("server-0.6.0 is staged", "switch", other.Repository+":testing")
	f.boot(nil)
	f.ok("server-0.5.0 boots next", "rollback")
	f.boot(nil)
	f.ok("nothing to do: server-0.5.0 is running\n", "update") // of edge again
	f.fails(exitUsage, "", "switch", "NOT A NAME")
}

// TestNoRoom: too small a store or ESP is refused with both numbers, after the
// five requests of a check, of which the signatures' three are only made once, and
// before the first write.
func TestNoRoom(t *testing.T) {
	f, v1 := newFakeMachine(t)
	f.publish("2.0.0")
	for i, c := range []struct{ dir, options, want string }{
		{"efi", "size=40k", "cannot stage server-2.0.0: the ESP has 0 MB free, the release needs 1"},
		{"sysroot/ashlar", "size=32m", "cannot stage server-2.0.0: the store has 33 MB free, the release needs 68"},
		{"sysroot/ashlar", "size=300m,nr_inodes=500", "cannot stage server-2.0.0: the store has 4"},
	} {
		f.site.Server.ResetStats()
		out, err := f.inSmall(c.dir, c.options, `
			find "$DIR" ! -name lock | sort > "$SAVED.before"
			! "$BIN" update
			find "$DIR" ! -name lock | sort | cmp - "$SAVED.before"`)
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s with %s: %v\n%s", c.dir, c.options, err, out)
		}
		if n := f.site.Server.Stats().Requests; n != int64(3+2*(1-min(i, 1))) {
			t.Errorf("%s: %d requests", c.dir, n)
		}
	}
	f.boots(v1)
	f.ok("server-2.0.0 is staged", "update")
}

// inSmall runs a script for which dir of the machine is a file system of another
// size, that only it sees. "$BIN" is ashlar.
func (f *fakeMachine) inSmall(dir, options, script string) (string, error) {
	f.t.Helper()
	self := f.process()
	// The program plays ashlar when it is called so.
	bin := filepath.Join(f.t.TempDir(), "ashlar")
	if err := os.Symlink(self.Path, bin); err != nil {
		f.t.Fatal(err)
	}
	args := []string{"--mount", "--propagation", "unchanged"} // in a chroot, / is no mount to change
	if os.Geteuid() != 0 {
		args = append(args, "--user", "--map-root-user") // which a chroot does not allow
	}
	cmd := exec.Command("unshare", append(args, "sh", "-ec", `
		cp -a "$DIR" "$SAVED"
		mount -t tmpfs -o "$OPTIONS" none "$DIR"
		trap 'umount "$DIR"' EXIT
		cp -a "$SAVED/." "$DIR"
		`+script)...)
	cmd.Env = append(self.Env, "DIR="+filepath.Join(f.c.Root, dir), "SAVED="+filepath.Join(f.t.TempDir(), "saved"), "OPTIONS="+options, "BIN="+bin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestRoomAhead: that the next update may not fit is told while there is none, and
// when there is one that nobody has begun.
func TestRoomAhead(t *testing.T) {
	f, _ := newFakeMachine(t)
	f.publish("2.0.0")
	for _, c := range []struct{ dir, options, status, check string }{
		{"sysroot/ashlar", "size=32m", "SHORT       the store has 33 MB free, and an update may need 68", "it may not fit"},
		{"sysroot/ashlar", "size=300m,nr_inodes=500", "SHORT       the store has 4", "it may not fit"},
		{"efi", "size=40k", "SHORT       the ESP has 0 MB free, and an update may need 1", "it may not fit"},
		{"efi", "size=40m", "on the ESP", "it takes at most"},
	} {
		out, err := f.inSmall(c.dir, c.options, `"$BIN" status; "$BIN" update --check`)
		for _, want := range []string{c.status, c.check} {
			if err != nil || !strings.Contains(out, want) {
				t.Errorf("%s with %s: %v, no %q in\n%s", c.dir, c.options, err, want, out)
			}
		}
		if big := c.options == "size=40m"; strings.Contains(out, "SHORT") == big || strings.Contains(out, "may not fit") == big {
			t.Errorf("%s with %s:\n%s", c.dir, c.options, out)
		}
	}
}

// TestRoomIsMade: an update that lacks room clears away what no deployment needs,
// and goes on; to look at it changes nothing.
func TestRoomIsMade(t *testing.T) {
	f, _ := newFakeMachine(t)
	f.publish("2.0.0")
	out, err := f.inSmall("sysroot/ashlar", "size=100m", `
		object=objects/ab/$(printf %062d 7)
		mkdir -p "$DIR/objects/ab"
		head -c 60M /dev/zero > "$DIR/$object"
		! "$BIN" update --dry-run
		test -e "$DIR/$object"
		"$BIN" update
		! test -e "$DIR/$object"`)
	for _, want := range []string{
		"ashlar: the store has 4", "MB free, the release needs 68; what no deployment needs was removed, 62.9 MB", "server-2.0.0 is staged and boots next",
	} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%v, no %q in\n%s", err, want, out)
		}
	}
}

// TestInterrupted: Ctrl-C ends with 130, changes nothing, and leaves nothing.
func TestInterrupted(t *testing.T) {
	f, v1 := newFakeMachine(t)
	f.publish("2.0.0")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	requests := 0
	f.site.Before = func(*http.Request) {
		if requests++; requests == 8 {
			cancel()
		}
	}
	t.Setenv("ASHLAR_ROOT", f.c.Root)
	var out, errs bytes.Buffer
	if code := run(ctx, []string{"update"}, &globals{stdout: &out, stderr: &errs}); code != exitInterrupted || !strings.HasSuffix(errs.String(), "ashlar: interrupted\n") {
		t.Errorf("%d\n%s%s", code, out.String(), errs.String())
	}
	f.boots(v1)
	if left := f.c.Leftovers(); len(left) > 0 {
		t.Errorf("it leaves %q", left)
	}
	f.site.Before = nil
	f.ok("server-2.0.0 is staged", "update")
}

// TestReboot: --reboot restarts into what was staged now or earlier, and not
// where nothing waits.
func TestReboot(t *testing.T) {
	f, _ := newFakeMachine(t)
	bin := t.TempDir()
	said := filepath.Join(bin, "said")
	script := "#!/bin/sh\necho \"$@\" >>\"" + said + "\"\n"
	if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	asked := func(want string, args ...string) {
		t.Helper()
		os.Remove(said)
		f.ok("", args...)
		if b, _ := os.ReadFile(said); string(b) != want {
			t.Errorf("%q asked systemctl for %q, want %q", args, b, want)
		}
	}
	asked("", "update", "--reboot")
	f.publish("2.0.0")
	asked("", "update", "--reboot", "--dry-run")
	asked("reboot\n", "update", "--reboot")
	asked("reboot\n", "update", "--reboot")
	asked("", "rollback", "--reboot", "--dry-run", "1.0.0")
	asked("reboot\n", "rollback", "--reboot", "1.0.0")
}

// TestSwitchToDirectory: a deployment keeps where a directory is, and not how it
// was named from where somebody stood.
func TestSwitchToDirectory(t *testing.T) {
	f, _ := newFakeMachine(t)
	f.publish("2.0.0")
	t.Chdir(filepath.Dir(f.site.Dir))
	f.ok("server-2.0.0 is staged", "switch", "oci:"+filepath.Base(f.site.Dir)+":stable")
	for _, d := range f.status().Deployments {
		if d.Version == "2.0.0" && d.Origin != (store.Origin{Repository: "oci:" + f.site.Dir, Channel: "stable"}) {
			t.Errorf("it follows %+v", d.Origin)
		}
	}
	f.boot(nil)
	t.Chdir("/")
	f.ok("nothing to do: server-2.0.0 is running", "update")
}
