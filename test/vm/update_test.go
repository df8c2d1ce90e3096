//go:build vm

package vm

import (
	"strconv"
	"strings"
	"testing"
)

// TestUpdateRollbackForward: a real update over the registry, with local edits
// kept; back to the first release with its own /etc; forward again.
func TestUpdateRollbackForward(t *testing.T) {
	t.Parallel()
	m := newMachine(t, sealed, "vm")
	m.boot()
	site := openSite(t, "1.0.0")
	m.follow(site)
	m.expectContains("update with nothing new", m.sh("ashlar update"), "nothing to do")

	// Two edits beside what the release changes, one on the same line, one account.
	m.sh(`sed -i 's/^port = 80$/port = 8080/' /etc/story.conf && echo mine > /etc/local.conf && echo 'edited' > /etc/motd
		useradd --uid 1500 --no-create-home localuser && echo v1 > /var/lib/shared`)
	site.publish("2.0.0")
	m.expectContains("update --check", m.sh("ashlar update --check"), "server-2.0.0 is available")
	m.expect("what boots next before the update", next(m), "1.0.0")

	before := m.sh("md5sum /usr/lib/os-release /etc/story.conf /etc/passwd; findmnt -no SOURCE,OPTIONS /")
	site.ResetStats()
	plan := m.sh("ashlar update --dry-run")
	site.ResetStats()
	said := m.sh("ashlar update")
	stats := site.Stats()
	t.Logf("dry run: %s\nupdate: %s\nthe server counted %d requests, %d bytes", plan, said, stats.Requests, stats.Bytes)
	m.expectContains("update", said, "staged and boots next")
	m.expectContains("the /etc preview", said, "conflict /etc/motd")
	m.expect("the running system after staging", m.sh("md5sum /usr/lib/os-release /etc/story.conf /etc/passwd; findmnt -no SOURCE,OPTIONS /"), before)
	m.expect("release that runs after staging", m.version(), "1.0.0")
	m.expect("what boots next", next(m), "2.0.0")

	// Only what changed travels: a few packages, not the kernel's modules.
	if stats.Requests > 100 {
		t.Errorf("the update took %d requests", stats.Requests)
	}
	full := packSize(t, "2.0.0")
	if stats.Bytes > full/2 {
		t.Errorf("the update moved %d bytes, the whole pack has %d", stats.Bytes, full)
	}

	m.reboot()
	m.expect("release after the reboot", m.version(), "2.0.0")
	m.expect("a changed default beside a local edit", m.sh("grep -E '^(color|port)' /etc/story.conf"), "color = green\nport = 8080")
	m.expect("a local file", m.sh("cat /etc/local.conf"), "mine")
	m.expect("a conflict keeps the machine's version", m.sh("cat /etc/motd"), "edited")
	m.expectContains("a conflict leaves the image's beside it", m.sh("cat /etc/motd.ashlar-new"), "2.0.0")
	m.expectContains("a conflict is listed", m.sh("ashlar status"), "/etc/motd")
	m.expect("accounts of both", m.sh("getent passwd story localuser | cut -d: -f1"), "story\nlocaluser")
	m.sh("command -v jq && ! command -v nano")
	m.expect("no counter on a good boot", m.sh("ls /efi/EFI/Linux | grep -c '+' || true"), "0")
	card := m.sh("ls /sys/class/net | grep -vx lo")
	m.expectContains("health", m.sh("ashlar health"), "good    network")
	m.expectContains("health without a network", m.fails("networkctl down "+card+" && ashlar health"), "FAILED  network: ")
	m.expectContains("health once more", m.sh("networkctl up "+card+" && ashlar health"), "good    network")

	m.sh("echo v2 > /etc/only-in-v2 && echo v2 > /var/lib/shared")
	m.rebootWith("ashlar rollback --reboot")
	m.expect("release after the rollback", m.version(), "1.0.0")
	m.expect("/etc of the first release", m.sh("cat /etc/motd; grep -E '^(color|port)' /etc/story.conf; ls /etc/only-in-v2 2>/dev/null || true"), "edited\ncolor = blue\nport = 8080")
	m.expect("/var is shared", m.sh("cat /var/lib/shared"), "v2")
	m.fails("getent passwd story")
	m.expectContains("update after a rollback", m.sh("ashlar update"), "was rolled back")
	m.reboot()
	m.expect("a rollback sticks", m.version(), "1.0.0")

	m.rebootWith("ashlar rollback 2.0.0 --reboot")
	m.expect("release after going forward", m.version(), "2.0.0")
	m.expect("/etc of the second release", m.sh("cat /etc/only-in-v2"), "v2")
	m.expectContains("verify", m.sh("ashlar verify"), "good:")
}

// next is the version that status says boots next.
func next(m *machine) string {
	m.t.Helper()
	s := m.status()
	for _, d := range s.Deployments {
		if d.Image == s.Next.Image {
			return d.Version
		}
	}
	return ""
}

// packSize is the size of a release's pack, as ashlar inspect knows it.
func packSize(t *testing.T, version string) int64 {
	t.Helper()
	ctx, cancel := stepContext()
	defer cancel()
	out, err := fx.Ashlar(ctx, "inspect", fx.Out()+":"+version, "--json")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(out, `"pack": {`)
	if !ok {
		t.Fatalf("no pack in %s", out)
	}
	_, rest, _ = strings.Cut(rest, `"size": `)
	digits := rest[:strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })]
	size, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return size
}
