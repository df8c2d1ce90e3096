package recipe

import (
	"path/filepath"
	"reflect"
	"testing"
)

func TestHealth(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "parts/common.toml", `
name = "common"
[base]
kind = "debian"
[kernel]
arguments = ["panic=30"]
[services]
enabled = ["a.service", "b.service", "c.service"]
masked = ["c.service"]
[health]
checks = ["checks/web", "checks/db"]
timeout = 5
`)
	load := func(text string) *Recipe {
		t.Helper()
		r, err := Load(write(t, dir, "own.toml", "include = [\"parts/common.toml\"]\n"+text))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := load("[services]\ndisabled = [\"b.service\"]\n[health]\nnetwork = true\nchecks = [\"own/web\"]\n")
	if want := []string{"a.service"}; !reflect.DeepEqual(r.RequiredUnits(), want) {
		t.Errorf("required are %q, want %q", r.RequiredUnits(), want)
	}
	if want := []string{filepath.Join(dir, "own/web"), filepath.Join(dir, "parts/checks/db")}; !reflect.DeepEqual(r.Health.Checks, want) {
		t.Errorf("checks are %q, want %q", r.Health.Checks, want)
	}
	if !*r.Health.Network || r.HealthTimeout() != 5 || r.Watchdog() != DefaultWatchdog {
		t.Errorf("health %+v", r.Health)
	}
	if want := "panic=30"; r.CommandLine()[0] != want || r.CommandLine()[1] == rebootOnPanic {
		t.Errorf("command line %q", r.CommandLine())
	}
	// An empty list is not the same as none.
	if r := load("[health]\nunits = []\nwatchdog = 0\n"); len(r.RequiredUnits()) != 0 || r.Watchdog() != 0 {
		t.Errorf("required are %q, the watchdog is %d", r.RequiredUnits(), r.Watchdog())
	}
}
