//go:build vm

package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/vmtest"
)

// TestSickRelease: an update whose system comes up, and is not healthy, is gone
// after three tries; the old system says what failed and why, does not try it
// again by itself, does when it is told to, and takes a newer release.
func TestSickRelease(t *testing.T) {
	t.Parallel()
	buildFrom(t, "sick")
	m := newMachine(t, sealed, "vm")
	m.boot()
	m.expectContains("health", m.sh("ashlar health"), "good    target")
	m.expect("a watchdog that systemd feeds", m.sh("cat /sys/class/watchdog/watchdog0/state; systemctl show -P RuntimeWatchdogUSec"), "active\n1min")
	m.expectContains("a panic restarts", m.sh("cat /proc/sys/kernel/panic"), "10")
	site := openSite(t, "1.0.0")
	m.follow(site)

	site.publish("1.5.0")
	m.expectContains("update", m.sh("ashlar update"), "staged and boots next")
	m.comeBack("the first time", "1.0.0")
	m.expectFailed()
	m.expectContains("update", m.sh("ashlar update"), "did not come up here in 3 tries")

	// Told to, it is tried again; unless something newer comes before that.
	m.expectContains("update --retry", m.sh("ashlar update --retry"), "staged and boots next")
	m.expect("what boots next", next(m), "1.5.0")

	site.publish("2.0.0")
	m.expectContains("a newer release", m.sh("ashlar update"), "staged and boots next")
	m.reboot()
	m.expect("release after the update", m.version(), "2.0.0")
	m.expectContains("what failed is over", m.sh("ashlar status; echo"), "server-2.0.0")

	// What breaks a system that was good is said, and does not end its boots.
	m.sh(`mkdir -p /etc/ashlar/health.d && printf '#!/bin/sh\necho nothing works; exit 1\n' > /etc/ashlar/health.d/mine && chmod +x /etc/ashlar/health.d/mine`)
	m.expectContains("health", m.fails("ashlar health"), "FAILED  /etc/ashlar/health.d/mine: it ended with exit status 1")
	m.step("reboot", m.Reboot)
	m.expectContains("units that failed", m.sh(waitUp), "ashlar-health.service")
	m.expectContains("status", m.sh("ashlar status"), "NOT GOOD    server-2.0.0: /etc/ashlar/health.d/mine: it ended with exit status 1")
	m.sh("rm /etc/ashlar/health.d/mine && systemctl start ashlar-booted.service")
	if said := m.sh("ashlar status"); strings.Contains(said, "NOT GOOD") {
		t.Errorf("after the cure:\n%s", said)
	}
}

// buildFrom makes a release that is only for one story, with the ids of the others.
func buildFrom(t *testing.T, name string) {
	t.Helper()
	recipe, err := fx.Recipe(t.Context(), name)
	if err == nil {
		_, err = fx.Ashlar(t.Context(), "build", recipe, "-o", fx.Out(), "--lock", filepath.Join(fx.Dir, "server.lock"), "--cache", fx.Cache, "--update-lock")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// comeBack restarts into what is staged and waits until the release named
// version is up, however often the machine restarts until then.
func (m *machine) comeBack(what, version string) {
	m.t.Helper()
	began := time.Now()
	m.step("restart", m.Reboot)
	// Waits for the end of the start, or of the boot.
	const script = `systemctl is-system-running --wait >/dev/null; . /usr/lib/os-release
		if [ "$IMAGE_VERSION" = %s ]; then exit 0; fi
		exec sleep infinity`
	for boots := 1; ; boots++ {
		ctx, cancel := stepContext()
		_, err := m.Output(ctx, fmt.Sprintf(script, version))
		cancel()
		if err == nil {
			m.t.Logf("%s: %s until %s was up again, after %d boots", what, time.Since(began).Round(time.Second), version, boots)
			break
		}
		if !errors.Is(err, vmtest.ErrRebooted) || boots > 4 {
			m.t.Fatalf("%s, boot %d: %v (console: %s)", what, boots, err, m.Log)
		}
	}
	m.expectUp()
}

// expectFailed looks at what a machine knows of release 1.5.0, which failed.
func (m *machine) expectFailed() {
	m.t.Helper()
	m.expect("release that runs", m.version(), "1.0.0")
	m.expect("what boots next", next(m), "1.0.0")
	said := m.sh("ashlar status")
	for _, want := range []string{
		"failed      server-1.5.0: story.service: it failed (exit-code)", "the story has no end", "ashlar update --retry 1.5.0",
	} {
		m.expectContains("status", said, want)
	}
	tries, kinds := 0, m.history("server-1.5.0")
	last := slices.Index(kinds, "staged")
	for i, kind := range kinds {
		if kind == "staged" {
			tries, last = 0, i
		}
		if kind == "booted" {
			tries++
		}
	}
	if tries != 3 || !slices.Contains(kinds[max(last, 0):], "failed") {
		m.t.Errorf("it was tried %d times; its life: %q", tries, kinds)
	}
	if again := m.sh("ls /efi/EFI/Linux"); strings.Contains(again, "_1.5.0_") {
		m.t.Errorf("its boot file takes room: %s", again)
	}
}

// history lists what happened to a deployment.
func (m *machine) history(id string) (kinds []string) {
	m.t.Helper()
	var answer struct {
		Events []struct{ Event, ID string }
	}
	if err := json.Unmarshal([]byte(m.sh("ashlar history --json")), &answer); err != nil {
		m.t.Fatalf("ashlar history --json: %v", err)
	}
	for _, e := range answer.Events {
		if e.ID == id {
			kinds = append(kinds, e.Event)
		}
	}
	return kinds
}
