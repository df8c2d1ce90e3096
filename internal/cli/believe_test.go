package cli

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// TestFourAnswers: nothing new, cannot reach, stale and lying are told apart by
// words, by the verdict and by the exit code.
func TestFourAnswers(t *testing.T) {
	f, _ := newFakeMachine(t)
	stale, stranger := updatetest.NewSite(t), updatetest.NewSiteOf(t, updatetest.Stranger())
	stale.Ago(8 * 24 * time.Hour)
	for _, version := range []string{"2.0.0", "3.0.0"} { // signed more often than what this machine has seen
		stale.Publish(updatetest.Spec{Name: "server", Version: version})
		stranger.Publish(updatetest.Spec{Name: "server", Version: version})
	}
	closed := updatetest.NewSite(t)
	closed.Instead = func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	for _, c := range []struct {
		repository string
		code       int
		verdict    update.Verdict
		words      string
	}{
		{f.site.Repository, exitOK, update.Current, "server-1.0.0 is running"},
		{closed.Repository, exitUnreachable, update.Unreachable, "cannot reach the repository: "},
		{"oci:/nonexistent/stick", exitUnreachable, update.Unreachable, "cannot reach the repository: "},
		{stale.Repository, exitStale, update.Stale, "cannot update from " + stale.Repository + ": the timestamp of this repository expired on "},
		{stranger.Repository, exitUntrusted, update.Untrusted, "cannot trust " + stranger.Repository + ": the timestamp of this repository is not signed by the key that must"},
	} {
		f.follow(c.repository)
		for _, args := range [][]string{{"update", "--check"}, {"update"}} {
			out, errs, code := f.run(args...)
			if code != c.code || !strings.Contains(out+errs, c.words) {
				t.Errorf("%s: %q ends with %d\n%s%s", c.repository, args, code, out, errs)
			}
		}
		out, _, code := f.run("update", "--json")
		if code != c.code || !strings.Contains(out, `"verdict": "`+string(c.verdict)+`"`) || !strings.Contains(out, c.words) {
			t.Errorf("%s: --json ends with %d\n%s", c.repository, code, out)
		}
	}
}

// follow lets the running deployment look elsewhere, as whoever can write to its disk can.
func (f *fakeMachine) follow(repository string) {
	f.t.Helper()
	dep, err := f.c.Store().Deployment(f.c.Running)
	if err != nil {
		f.t.Fatal(err)
	}
	dep.Origin.Repository = repository
	if err := f.c.Store().WriteDeployment(dep); err != nil {
		f.t.Fatal(err)
	}
}

// TestWithdrawnRelease: who runs it is told, with the reason and the way back;
// who staged it does not boot it; nobody else takes it; nothing goes back by itself.
func TestWithdrawnRelease(t *testing.T) {
	f, v1 := newFakeMachine(t)
	v2 := f.publish("2.0.0")
	f.ok("staged", "update")
	f.boot(nil)
	v3 := f.publish("3.0.0")
	f.ok("staged", "update")
	f.boots(v3)

	// Staged, and not booted.
	f.site.Withdraw("3.0.0", "it eats disks")
	f.ok("nothing to do: server-3.0.0 was withdrawn by its publisher: it eats disks\n", "update", "--check")
	f.boots(v3)
	f.ok("withdrawn   server-3.0.0: it eats disks\n", "status")
	f.ok("server-3.0.0 was staged, and was withdrawn: it does not boot next any more\n", "update")
	f.boots(v2)
	f.ok("nothing to do: server-3.0.0 was withdrawn by its publisher: it eats disks\n", "update", "--retry")
	f.fails(exitError, "cannot stage server-3.0.0: server-3.0.0 was withdrawn by its publisher: it eats disks", "update", "--to", "3.0.0")
	f.boots(v2)

	// Running.
	f.site.Withdraw("2.0.0", "so does this one")
	told := "server-2.0.0, which runs, was withdrawn by its publisher on " + time.Now().UTC().Format(time.DateOnly) +
		": so does this one; ashlar rollback goes back to server-1.0.0\n"
	f.ok(told, "update")
	f.ok("withdrawn   "+told, "status")
	f.boots(v2)
	s := f.status()
	if s.Recall == nil || s.Recall.ID != "server-2.0.0" || s.Recall.Reason != "so does this one" || s.Recall.WayBack == "" {
		t.Errorf("status --json: %+v", s.Recall)
	}
	// The channel goes back: told, not taken.
	f.site.Point("stable", "1.0.0")
	f.ok("nothing to do: the channel holds 1.0.0, older than 2.0.0 that runs; ashlar update --to 1.0.0 takes it all the same\n"+told, "update")
	f.boots(v2)
	f.ok("server-1.0.0 boots next\n", "rollback")
	f.boot(nil)
	f.boots(v1)
	if s := f.status(); s.Recall != nil {
		t.Errorf("after going back: %+v", s.Recall)
	}
	// Forward again is a person's choice, who is told.
	f.ok("server-2.0.0 was withdrawn by its publisher on "+time.Now().UTC().Format(time.DateOnly)+": so does this one\nserver-2.0.0 boots next\n", "rollback", "2.0.0")
}

// TestUpdateTo takes what a person names, older too, of what is signed.
func TestUpdateTo(t *testing.T) {
	f, _ := newFakeMachine(t)
	old := f.site.Publish(updatetest.Spec{Name: "server", Version: "0.9.0", Channels: []string{"old"}})
	f.ok("nothing to do: server-1.0.0 is running\n", "update")
	f.ok("server-0.9.0 is staged and boots next", "update", "--to", "0.9.0")
	f.boots(old)
	f.fails(exitError, "no release 7.0.0 of server (amd64) is signed in this repository", "update", "--to", "7.0.0")
	f.fails(exitUsage, "", "update", "--to", "../x")
}

// TestSwitchPublisher: another publisher's repository needs their root from a
// person, once; going back goes back to the old keys.
func TestSwitchPublisher(t *testing.T) {
	f, v1 := newFakeMachine(t)
	theirs := updatetest.NewSiteOf(t, updatetest.Stranger())
	other := theirs.Publish(updatetest.Spec{Name: "server", Version: "2.0.0"})
	f.fails(exitUntrusted, "cannot trust "+theirs.Repository+": ", "switch", theirs.Repository)
	f.boots(v1)
	root := filepath.Join(t.TempDir(), "root.json")
	if err := os.WriteFile(root, updatetest.Stranger().Root(), 0o644); err != nil {
		t.Fatal(err)
	}
	f.fails(exitUntrusted, "cannot trust "+f.site.Repository+": ", "switch", f.site.Repository, "--root", root)
	f.ok("server-2.0.0 is staged and boots next", "switch", theirs.Repository, "--root", root)
	f.boots(other)
	// While it waits, updates are looked for there, with the keys of its image.
	f.ok("nothing to do: server-2.0.0 is staged and boots next\n", "update")
	f.boot(nil)
	theirs.Publish(updatetest.Spec{Name: "server", Version: "2.1.0"})
	f.ok("server-2.1.0 is staged", "update")
	f.boot(nil)
	text := f.ok("verified", "status")
	if strings.Contains(text, "NOBODY") {
		t.Errorf("status:\n%s", text)
	}
	f.ok("good: ", "verify")
	f.fails(exitUntrusted, "cannot trust "+f.site.Repository+": ", "switch", f.site.Repository)
	f.ok("server-2.0.0 boots next", "rollback")

	// Entirely back, as far as that is still here.
	g, _ := newFakeMachine(t)
	g.ok("server-2.1.0 is staged", "switch", theirs.Repository, "--root", root)
	g.boot(nil)
	g.ok("server-1.0.0 boots next", "rollback")
	g.boot(nil)
	g.publish("1.1.0")
	g.ok("server-1.1.0 is available", "update", "--check")
	g.ok("good: ", "verify")
}

// TestNobodyVouches: a deployment that was put on the disk is named, by status
// and by verify; one that nothing was seen of yet is only said to be so.
func TestNobodyVouches(t *testing.T) {
	f, _ := newFakeMachine(t)
	f.ok("signatures  server-1.0.0: not checked: no signatures were looked at yet; ashlar update --check does\n", "status")
	f.ok("good: ", "verify")
	f.ok("is running", "update")
	s := f.status()
	if d := s.Deployments[0]; !s.Signed || d.Signatures.State != update.Verified || len(d.Signatures.Keys) != 1 || d.Signatures.Until == "" {
		t.Errorf("status --json: %+v", d.Signatures)
	}
	evil := updatetest.NewSite(t).Publish(updatetest.Spec{Name: "server", Version: "9.0.0", Unsigned: true, Content: "backdoor"})
	f.c.Install(evil, store.Origin{Repository: f.site.Repository, Channel: "stable"})
	f.ok("signatures  server-9.0.0: NOBODY VOUCHES FOR IT: no release of server (amd64) with the document sha256:", "status")
	out, _, code := f.run("verify")
	if code != exitDamaged || !strings.Contains(out, "not vouched for server-9.0.0: no release of server (amd64) with the document sha256:") || strings.Contains(out, "for server-1.0.0") {
		t.Errorf("verify ends with %d\n%s", code, out)
	}
	// The memory is not sealed. Whoever damages it makes the machine begin again, and is told of.
	memory := filepath.Join(f.c.Root, "sysroot/ashlar/trust/server/current/timestamp.json")
	if err := os.WriteFile(memory, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	f.ok("NOBODY VOUCHES FOR IT: the accepted metadata is damaged: ", "status")
	if _, errs, code := f.run("update", "--check"); code != exitOK || !strings.Contains(errs, "so an older state of it would not be noticed this once: ") {
		t.Errorf("with a damaged memory: %d\n%s", code, errs)
	}
	f.ok("verified", "status")
	if err := os.RemoveAll(filepath.Join(f.c.Root, "sysroot/ashlar/trust/server")); err != nil {
		t.Fatal(err)
	}
	f.ok("not checked", "status")
	f.ok("running", "switch", f.site.Repository)
	f.ok("verified", "status")
}

// TestMirror: skopeo copies a repository to another registry, and machines accept the copy.
func TestMirror(t *testing.T) {
	f, _ := newFakeMachine(t)
	v2 := f.publish("2.0.0")
	mirror := updatetest.NewSite(t)
	if err := os.RemoveAll(mirror.Dir); err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"1.0.0", "2.0.0", "stable", "ashlar-trust"} {
		cmd := exec.Command("skopeo", "copy", "--all", "--src-tls-verify=false", "docker://"+f.site.Repository+":"+tag, "oci:"+mirror.Dir+":"+tag)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("skopeo: %v\n%s", err, out)
		}
	}
	f.ok("server-2.0.0 is staged", "switch", mirror.Repository)
	f.boots(v2)
	f.boot(nil)
	f.ok("nothing to do: server-2.0.0 is running\n", "update")
	f.publish("3.0.0")
	f.ok("server-3.0.0 is staged", "switch", f.site.Repository)
	// The mirror is a day behind: it shows what this machine has left behind.
	f.fails(exitUntrusted, "this repository shows timestamp 2, and this machine accepted 3 before: somebody shows it the past", "switch", mirror.Repository)
}
