//go:build vm && slow

package vm

import (
	"strings"
	"testing"
)

// TestCountedAgain: a system that was good, and whose boots end badly three times
// in a row, has to prove itself again; one that is shut down in order has not.
func TestCountedAgain(t *testing.T) {
	t.Parallel()
	m := newMachine(t, sealed, "vm")
	for range 2 {
		m.boot()
		m.step("shutdown", m.Shutdown)
	}
	const names = "ls /efi/EFI/Linux"
	for range 3 {
		m.step("boot", m.Boot)
		if got := m.sh(names); strings.Contains(got, "+") {
			t.Fatalf("too early: %s", got)
		}
		m.PowerCut()
	}
	m.step("boot", m.Boot)
	m.expectContains("boot files", m.sh(names), "+2-1.efi")
	m.expectContains("history", strings.Join(m.history("server-1.0.0"), " "), "counted-again")
	m.expectContains("status", m.sh("ashlar status"), "did not stay up: 3 boots in a row")
	m.expect("it has to stay up", m.sh("systemctl is-active ashlar-steady.service || true"), "activating")
	m.step("reboot", m.Reboot)
	m.expectContains("boot files", m.sh(names), "+1-2.efi")
}
