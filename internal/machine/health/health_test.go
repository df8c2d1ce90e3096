package health

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/machine/history"
)

// fake is a systemd with these units. The real one is asked in the stories of
// virtual machines; what it answers is in TestParse….
type fake map[string]unitState

func (f fake) show(_ context.Context, unit string) (unitState, error) {
	if u, ok := f[unit]; ok {
		u.ID = unit
		return u, nil
	}
	return unitState{ID: unit, Load: "not-found", Active: "inactive"}, nil
}

func (f fake) unitsIn(_ context.Context, state string) (list []string, err error) {
	for name, u := range f {
		if u.Active == state {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list, nil
}

func (f fake) journal(_ context.Context, unit string) []string {
	return []string{"the journal of " + unit}
}

var up = fake{
	"default.target": {Load: "loaded", Active: "active", Sub: "active"},
	"good.service":   {Load: "loaded", Active: "active", Sub: "running"},
	"done.service":   {Load: "loaded", Active: "inactive", Sub: "dead", Result: "success"},
	"masked.service": {Load: "masked", Active: "inactive"},
	"bad.service":    {Load: "loaded", Active: "failed", Result: "exit-code"},
	"loops.service":  {Load: "loaded", Active: "activating", Sub: "auto-restart", Result: "signal"},
}

// put writes an executable check below root.
func put(t *testing.T, root, path, script string) {
	t.Helper()
	path = filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, c *Checker) *Report {
	t.Helper()
	r, err := c.Check(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestUnits(t *testing.T) {
	for unit, reason := range map[string]string{
		"good.service": "", "done.service": "", "masked.service": "",
		"bad.service":   "it failed (exit-code)",
		"loops.service": "it ended and is started again and again (signal)",
		"no.service":    "there is no such unit: not-found",
	} {
		r := check(t, &Checker{Root: t.TempDir(), Config: Config{Units: []string{unit}}, system: up})
		if len(r.Checks) != 2 || r.Good != (reason == "") || r.Checks[1].Reason != reason || r.Checks[1].Name != unit || r.Checks[1].Kind != Unit {
			t.Errorf("%s: %+v", unit, r)
		}
	}
	r := check(t, &Checker{Root: t.TempDir(), Config: Config{Units: []string{"bad.service", "good.service", "no.service"}}, system: up})
	f := r.Failure("boot")
	want := history.Failure{
		Boot: "boot", Stage: history.Checking, Check: "bad.service", Passed: 2,
		Reason: "it failed (exit-code); another check failed as well", Lines: []string{"the journal of bad.service"},
	}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("what is kept: %+v", f)
	}
}

func TestTarget(t *testing.T) {
	for name, system := range map[string]fake{
		"default.target was not reached, it is inactive; failed: a.service b.service": {
			"default.target": {Load: "loaded", Active: "inactive"}, "a.service": {Active: "failed"}, "b.service": {Active: "failed"}},
		"default.target was not reached, it is activating": {"default.target": {Active: "activating"}},
	} {
		r := check(t, &Checker{Root: t.TempDir(), system: system})
		if f := r.Failure("b"); r.Good || f.Reason != name || f.Stage != history.Starting || len(f.Lines) != 1 {
			t.Errorf("%q: %+v", name, f)
		}
	}
	f := unfinished(context.Background(), fake{"slow.service": {Active: "activating"}}, "b")
	if f.Reason != "the system did not finish its start in time, waiting for slow.service" || f.Boot != "b" || f.Stage != history.Starting {
		t.Errorf("unfinished: %+v", f)
	}
}

func TestPrograms(t *testing.T) {
	root := t.TempDir()
	lib, etc := programDirs[0], programDirs[1]
	put(t, root, lib+"/20-image", "exit 0")
	put(t, root, etc+"/10-machine", "exit 0")
	put(t, root, lib+"/30-replaced", "exit 1")
	put(t, root, etc+"/30-replaced", "exit 0")
	put(t, root, lib+"/40-off", "exit 1")
	put(t, root, lib+"/50-not-executable", "exit 1")
	if err := os.Chmod(filepath.Join(root, lib, "50-not-executable"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(os.DevNull, filepath.Join(root, etc, "40-off")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, lib, "60-directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := check(t, &Checker{Root: root, system: up})
	var names []string
	for _, c := range r.Checks[1:] {
		names = append(names, c.Name)
	}
	if want := []string{etc + "/10-machine", lib + "/20-image", etc + "/30-replaced"}; !r.Good || !slices.Equal(names, want) {
		t.Errorf("%t: %q, want %q", r.Good, names, want)
	}

	put(t, root, lib+"/70-bad", "seq 1 100; echo on stderr >&2; exit 3")
	put(t, root, lib+"/80-killed", "kill -9 $$")
	put(t, root, lib+"/90-no-program", "")
	if err := os.WriteFile(filepath.Join(root, lib, "90-no-program"), []byte("#!/no/such/interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r = check(t, &Checker{Root: root, system: up})
	failed := r.Failed()
	if len(failed) != 3 || failed[0].Reason != "it ended with exit status 3" || failed[1].Reason != "it ended with signal: killed" ||
		!strings.HasPrefix(failed[2].Reason, "it ended with exit status 12") {
		t.Fatalf("%+v", failed)
	}
	if lines := failed[0].Lines; len(lines) != 40 || lines[0] != "62" || lines[39] != "on stderr" {
		t.Errorf("it said %q", lines)
	}
	if f := r.Failure(""); f.Check != lib+"/70-bad" || f.Reason != "it ended with exit status 3; 2 other checks failed as well" || f.Passed != 4 {
		t.Errorf("what is kept: %+v", f)
	}
}

// TestTimeLimit: a check that hangs ends, with all that it started, and the
// next one is made.
func TestTimeLimit(t *testing.T) {
	root := t.TempDir()
	pids := filepath.Join(root, "pids")
	put(t, root, programDirs[0]+"/10-hangs", fmt.Sprintf("trap '' TERM\necho waiting\nsh -c 'echo $$; while :; do sleep 1; done' > %s", pids))
	put(t, root, programDirs[0]+"/20-good", "exit 0")
	begin := time.Now()
	r := check(t, &Checker{Root: root, Config: Config{Timeout: 1}, system: up})
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	if len(r.Checks) != 3 || r.Checks[1].Reason != "it did not end within 1s" || !slices.Equal(r.Checks[1].Lines, []string{"waiting"}) || !r.Checks[2].Good {
		t.Errorf("%+v", r)
	}
	pid, err := os.ReadFile(pids)
	if err != nil || len(pid) == 0 {
		t.Fatalf("the child did not run: %v", err)
	}
	if stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat"); err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("the child is alive: %s", stat)
	}
}

func TestInterrupted(t *testing.T) {
	root := t.TempDir()
	put(t, root, programDirs[0]+"/10-hangs", "sleep 60")
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if r, err := (&Checker{Root: root, system: up}).Check(ctx); err == nil {
		t.Errorf("it is %+v", r)
	}
}

func TestParseShow(t *testing.T) {
	// systemctl show --property=… of systemd 257
	u := parseShow("Id=multi-user.target\nLoadState=loaded\nActiveState=active\nSubState=active\nResult=\n")
	if want := (unitState{ID: "multi-user.target", Load: "loaded", Active: "active", Sub: "active"}); u != want {
		t.Errorf("%+v", u)
	}
	names, err := parseUnits([]byte(`[{"unit":"ashlar-health.service","load":"loaded","active":"activating","sub":"start","description":"x"},` +
		`{"unit":"slow.service","load":"loaded","active":"activating","sub":"start","description":"y"}]`))
	if err != nil || !slices.Equal(names, []string{"slow.service"}) {
		t.Errorf("%q, %v", names, err)
	}
}

func TestConfig(t *testing.T) {
	root := t.TempDir()
	c, err := ReadConfig(root)
	if err != nil || c.Network || len(c.Units) != 0 || c.Timeout != 60 {
		t.Errorf("without a file: %+v, %v", c, err)
	}
	path := filepath.Join(root, ConfigPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	for text, wrong := range map[string]string{
		"units = ['a.service']\nnetwork = true\ntimeout = 5\n": "",
		"timeout = 0":                         "0 is not 1 to 3600",
		"units = ['--root']":                  "is no unit",
		"unknown = 1":                         "missing in",
		strings.Repeat("#", maxConfig) + "\n": "too long",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		c, err := ReadConfig(root)
		switch {
		case wrong == "" && (err != nil || !c.Network || c.Timeout != 5 || c.Units[0] != "a.service"):
			t.Errorf("%q: %+v, %v", text, c, err)
		case wrong != "" && (err == nil || !strings.Contains(err.Error(), wrong)):
			t.Errorf("%.40q: %v, want %q", text, err, wrong)
		}
	}
}
