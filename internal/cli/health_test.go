package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/machine/boot"
	"github.com/ashlar-os/ashlar/internal/machine/history"
	"github.com/ashlar-os/ashlar/internal/machine/update"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// withSystemd gives a machine a systemd that has come up; the stories of virtual
// machines ask a real one.
func (f *fakeMachine) withSystemd() {
	f.t.Helper()
	dir := f.t.TempDir()
	for name, script := range map[string]string{
		"systemctl":  `case "$1" in show) echo Id=multi-user.target; echo LoadState=loaded; echo ActiveState=active;; *) echo "[]";; esac`,
		"journalctl": "echo 'a line of the journal'",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			f.t.Fatal(err)
		}
	}
	f.t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// runs makes a release run, without a boot: on trial when its boot file is
// counted. counters are those of boot files.
func (f *fakeMachine) runs(r *updatetest.Release, counters map[string]string) {
	f.t.Helper()
	f.c.Running = r.Image()
	f.write("proc/cmdline", "rw ashlar.image="+r.Image().String()+"\n")
	f.write("proc/sys/kernel/random/boot_id", "boot-of-"+r.Version+"\n")
	for _, name := range f.c.BootFiles() {
		stem, _, _ := strings.Cut(strings.TrimSuffix(name, ".efi"), "+")
		version := strings.Split(stem, "_")[1]
		if counter, ok := counters[version]; ok {
			dir := filepath.Join(f.c.Root, "efi/EFI/Linux")
			if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, stem+counter+".efi")); err != nil {
				f.t.Fatal(err)
			}
		}
	}
	f.onTrial("")
	for _, name := range f.c.BootFiles() {
		if strings.HasPrefix(name, "ashlar_"+r.Version+"_") && strings.Contains(name, "+") {
			f.onTrial("/EFI/Linux/" + name)
		}
	}
}

// onTrial says, as the boot loader does, which boot file this boot counted;
// none when it was good before.
func (f *fakeMachine) onTrial(path string) {
	f.t.Helper()
	variable := boot.VariablePath("/", "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")
	if path == "" {
		if err := os.RemoveAll(filepath.Join(f.c.Root, variable)); err != nil {
			f.t.Fatal(err)
		}
		return
	}
	content := []byte{6, 0, 0, 0}
	for _, c := range strings.ReplaceAll(path, "/", `\`) + "\x00" {
		content = append(content, byte(c), 0)
	}
	f.write(variable, string(content))
}

// check puts a health check on the machine, or takes it away.
func (f *fakeMachine) check(script string) {
	f.t.Helper()
	const name = "etc/ashlar/health.d/mine"
	f.write(name, "#!/bin/sh\n"+script+"\n")
	if err := os.Chmod(filepath.Join(f.c.Root, name), 0o755); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fakeMachine) life(id string) (list []string) {
	f.t.Helper()
	var answer historyAnswer
	f.answer(&answer, "history", "--json")
	for _, e := range answer.Events {
		if e.ID == id {
			list = append(list, string(e.Kind)+" by "+e.By)
		}
	}
	return list
}

func TestHealth(t *testing.T) {
	f, _ := newFakeMachine(t)
	f.withSystemd()
	f.ok("good    target", "health")
	f.check("echo one; echo two >&2; exit 1")
	f.fails(exitError, "1 of 2 health checks failed: /etc/ashlar/health.d/mine: it ended with exit status 1", "health")
	out, _, code := f.run("health", "--json")
	if code != exitError || !strings.Contains(out, `"lines": [
        "one",
        "two"
      ],`) {
		t.Errorf("exit code %d: %s", code, out)
	}
	// Nothing of it is kept: it was no boot.
	if s := f.status(); s.Deployments[0].LastFailure != nil {
		t.Errorf("status: %+v", s.Deployments[0])
	}
	f.check("exit 0")
	var answer healthAnswer
	f.answer(&answer, "health", "--json")
	if !answer.Good || len(answer.Checks) != 2 || answer.Checks[1].Name != "/etc/ashlar/health.d/mine" {
		t.Errorf("health --json: %+v", answer)
	}
}

// TestFailedTrial: what failed is kept before a boot on trial ends, status tells
// it with what it said, and nobody tries it again unless told to.
func TestFailedTrial(t *testing.T) {
	f, v1 := newFakeMachine(t)
	f.withSystemd()
	v2 := f.publish("2.0.0")
	f.ok("staged", "update")
	f.runs(v2, map[string]string{"2.0.0": "+0-3"})
	f.check("echo the disk is slow; exit 7")
	f.fails(exitError, "it ended with exit status 7", "health", "--boot")
	f.fails(exitError, "the machine restarts", "health", "--failed")
	f.boots(v1)

	f.runs(v1, nil)
	f.fails(exitError, "this boot is not on trial, and is not ended", "health", "--failed")
	f.ok("", "boot-record")
	said := f.ok("failed      server-2.0.0: /etc/ashlar/health.d/mine: it ended with exit status 7", "status")
	for _, want := range []string{"| the disk is slow", "ashlar update --retry 2.0.0"} {
		if !strings.Contains(said, want) {
			t.Errorf("status does not say %q:\n%s", want, said)
		}
	}
	i := slices.IndexFunc(f.status().Deployments, func(d statusDeployment) bool { return d.ID == "server-2.0.0" })
	d := f.status().Deployments[i]
	if d.LastFailure == nil || d.LastFailure.Check != "/etc/ashlar/health.d/mine" || d.LastFailure.Boot != "boot-of-2.0.0" || d.LastFailure.Stage != history.Checking {
		t.Errorf("status --json: %+v", d.LastFailure)
	}
	life := f.life("server-2.0.0")
	if len(life) != 4 || !strings.HasPrefix(life[0], "staged by ") || life[1] != "failed by health" || life[2] != "failed by loader" || !strings.HasPrefix(life[3], "removed by ") {
		t.Errorf("its life: %q", life)
	}
	f.ok("", "boot-record")
	if again := f.life("server-2.0.0"); len(again) != 4 {
		t.Errorf("told again: %q", again)
	}
	f.ok("server-2.0.0 is staged and boots next", "update", "--retry", "2.0.0")
	f.boots(v2)
}

// TestUnfinishedStart: a boot that never got to its checks is told as well.
func TestUnfinishedStart(t *testing.T) {
	f, v1 := newFakeMachine(t)
	f.withSystemd()
	v2 := f.publish("2.0.0")
	f.ok("staged", "update")
	f.runs(v2, map[string]string{"2.0.0": "+1-2"})
	f.fails(exitError, "the machine restarts", "health", "--failed")
	f.boots(v2)
	f.runs(v1, map[string]string{"2.0.0": "+0-3"})
	f.ok("server-2.0.0: target: the system did not finish its start in time", "status")
}

// TestNothingIsGood: when all have failed, what gets furthest goes on running.
func TestNothingIsGood(t *testing.T) {
	f, v1 := newFakeMachine(t)
	f.withSystemd()
	v2 := f.publish("2.0.0")
	f.ok("staged", "update")
	f.check("exit 1")

	// The new one gets to its checks, the old one did not get to systemd.
	f.runs(v2, map[string]string{"1.0.0": "+0-3", "2.0.0": "+0-3"})
	f.write("sysroot/ashlar/deployments/"+v1.Image().String()+"/failure", "no disk\n")
	f.fails(exitError, "it ended with exit status 1", "health", "--boot")
	f.ok("every deployment here has failed; server-2.0.0 gets furthest, and goes on running", "health", "--failed")
	f.boots(v2)
	said := f.ok("NOT GOOD    server-2.0.0: /etc/ashlar/health.d/mine", "status")
	if !strings.Contains(said, "this one gets furthest: it goes on running") || !f.status().Kept {
		t.Errorf("status:\n%s", said)
	}
	// Neither a change nor a clean-up takes it for a good boot, or the other away.
	f.ok("", "gc")
	s := f.status()
	if len(s.Deployments) != 2 || s.Deployments[0].TriesLeft != -1 || s.Deployments[1].TriesLeft != 0 {
		t.Errorf("after the clean-up: %+v", s.Deployments)
	}
	if names := f.c.BootFiles(); len(names) != 2 {
		t.Errorf("boot files %q", names)
	}
	// Its next boot is not counted, fails as well, and is not held against it.
	f.onTrial("")
	f.fails(exitError, "it ended with exit status 1", "health", "--boot")
	if !f.status().Kept {
		t.Error("it is kept no more")
	}
	// Put right, it is good.
	f.check("exit 0")
	f.ok("good", "health", "--boot")
	f.ok("", "boot-record")
	if s := f.status(); s.Kept || s.Deployments[0].LastFailure != nil || !slices.Contains(s.Deployments[0].Roles, update.Running) {
		t.Errorf("after the cure: %+v", s.Deployments[0])
	}

	// The other way round: it hands over.
	f.runs(v1, map[string]string{"1.0.0": "+0-4", "2.0.0": "+0-3"})
	f.write("sysroot/ashlar/deployments/"+v2.Image().String()+"/failure",
		`{"schema":1,"time":"","boot":"x","id":"server-2.0.0","stage":"checking","check":"x","reason":"y","passed":9,"lines":[]}`)
	f.fails(exitError, "the machine restarts into server-2.0.0", "health", "--failed")
	f.boots(v2)
	if names := strings.Join(f.c.BootFiles(), " "); strings.Count(names, "+") != 1 {
		t.Errorf("boot files %s", names)
	}
}

func TestHistory(t *testing.T) {
	f, _ := newFakeMachine(t)
	f.publish("2.0.0")
	f.ok("staged", "update")
	f.boot(nil)
	f.ok("", "pin", "1.0.0")
	f.ok("", "unpin", "1.0.0")
	f.ok("", "rollback")
	t.Setenv("SUDO_USER", "alice")
	f.ok("", "rollback", "2.0.0")
	said := f.ok("", "history")
	lines := strings.Split(strings.TrimSpace(said), "\n")
	for i, want := range []string{
		"server-1.0.0  blessed", "server-2.0.0  staged", "server-2.0.0  blessed", "server-1.0.0  pinned", "server-1.0.0  unpinned",
		"server-2.0.0  rolled-back", "server-1.0.0  rolled-back",
	} {
		if i >= len(lines) || !strings.Contains(lines[i], want) {
			t.Fatalf("line %d is not of %q:\n%s", i, want, said)
		}
	}
	if last := lines[len(lines)-1]; !strings.Contains(last, "by alice") || !strings.Contains(last, "to server-2.0.0") {
		t.Errorf("the last is %q", last)
	}
}
