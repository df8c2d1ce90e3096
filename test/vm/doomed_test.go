//go:build vm && slow

package vm

import (
	"os"
	"regexp"
	"testing"
)

// TestThreeBadBoots: a kernel that panics, a systemd that hangs and an emergency
// mode cost one try each, and then the old system is back and says what was.
func TestThreeBadBoots(t *testing.T) {
	t.Parallel()
	buildFrom(t, "doomed")
	m := newMachine(t, sealed, "vm")
	m.boot()
	site := openSite(t, "1.0.0")
	m.follow(site)
	site.publish("1.7.0")
	m.expectContains("update", m.sh("ashlar update"), "staged and boots next")
	m.comeBack("three bad boots", "1.0.0")

	m.expect("tries", m.sh("cat /var/lib/story-boots"), "3")
	m.expectContains("status", m.sh("ashlar status"), "failed      server-1.7.0: ")
	m.expectContains("update", m.sh("ashlar update"), "did not come up here in 3 tries")
	if tries := m.count("/efi/EFI/Linux"); tries != 1 {
		t.Errorf("%d boot files", tries)
	}
	booted := 0
	for _, kind := range m.history("server-1.7.0") {
		if kind == "booted" {
			booted++
		}
	}
	if booted != 3 {
		t.Errorf("the history tells of %d boots: %q", booted, m.history("server-1.7.0"))
	}
	t.Logf("it says: %s", m.sh("ashlar status | grep -A9 ^failed"))

	// That these were the three, in this order.
	console, err := os.ReadFile(m.Log)
	if err != nil {
		t.Fatal(err)
	}
	for _, order := range []string{
		`(?s)story: boot 1 of this release.*Kernel panic - not syncing: sysrq triggered crash.*story: boot 2`,
		`(?s)story: systemd stops.*softdog: Initiating system reboot.*story: boot 3`,
		`(?s)story: boot 3 of this release.*(?i:emergency).*`,
	} {
		if !regexp.MustCompile(order).Match(console) {
			t.Errorf("the console (%s) does not show %s", m.Log, order)
		}
	}
}
