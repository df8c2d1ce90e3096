//go:build vm

package vm

import (
	"strings"
	"testing"
)

// TestNobodyWritesToTheRoot: what runs cannot be changed, not even by root, and
// what is laid over it does not stay unseen.
func TestNobodyWritesToTheRoot(t *testing.T) {
	t.Parallel()
	m := newMachine(t, sealed, "vm")
	m.boot()

	m.expectContains("root", m.sh("findmnt -no FSTYPE,OPTIONS /"), "overlay ro,")
	m.expectContains("root", m.sh("findmnt -no OPTIONS /"), "verity=require")
	m.expect("default target", m.sh("systemctl is-active multi-user.target"), "active")
	if !m.status().Sealed {
		t.Error("status does not call the root sealed")
	}

	for _, dir := range []string{"/", "/usr", "/usr/lib", "/usr/bin"} {
		m.expectContains("touch in "+dir, m.fails("touch "+dir+"/intruder"), "Read-only file system")
	}
	// Every directory and every file of the root, and what is below it. What is
	// mounted on it is listed by find too.
	m.expect("directories that take a file", m.sh(`find / -xdev -type d -exec sh -c 'for d; do
		{ true > "$d/intruder"; } 2>/dev/null || continue; rm "$d/intruder"; mountpoint -q "$d" || echo "$d"; done' sh {} +`), "")
	m.expect("files that can be written to", m.sh(`find / -xdev -type f -exec sh -c 'for f; do { true >> "$f"; } 2>/dev/null && echo "$f"; done; true' sh {} +`), "")
	m.expect("sealed files that can be written to", m.sh(`unshare -m sh -c 'mount -o remount,rw,bind /sysroot && find /sysroot/ashlar/objects /sysroot/ashlar/images -type f -exec sh -c "for f; do { true >> \"\$f\"; } 2>/dev/null && echo \"\$f\"; done; true" sh {} +'`), "")
	m.fails("blockdev --setrw /dev/loop0; dd if=/dev/zero of=/dev/loop0 bs=4096 count=1 conv=fsync")
	for _, target := range []string{"/", "/usr"} {
		m.fails("mount -o remount,rw " + target)
		m.fails("touch " + strings.TrimSuffix(target, "/") + "/intruder")
	}
	// An object can be found below /sysroot, and even where root makes that
	// writable for itself, the kernel refuses to open a sealed file for writing.
	object := m.sh(`find /sysroot/ashlar/objects -type f -size +100k | sort | head -n 1`)
	m.fails("echo x >> " + object)
	m.expectContains("sealed object", m.fails("unshare -m sh -c 'mount -o remount,rw,bind /sysroot && echo x >> "+object+"'"), "Operation not permitted")
	m.expectContains("verify", m.sh("ashlar verify"), "good:")

	m.sh("mkdir /run/evil && cp /bin/true /run/evil/nano && mount --bind /run/evil/nano /usr/bin/nano")
	said := m.fails("ashlar verify")
	m.expectContains("verify of a mount over /usr/bin/nano", said, "covered /usr/bin/nano")
	m.sh("umount /usr/bin/nano && ashlar verify")

	m.sh("echo kept > /etc/story && echo kept > /var/lib/story && echo kept > /root/story && sync")
	m.reboot()
	m.expect("files in /etc, /var and /root after a reboot", m.sh("cat /etc/story /var/lib/story /root/story"), "kept\nkept\nkept")
}

// TestTwoMachinesAreTheSame: a second machine of the release, with its own
// first boot, is the same system, and drift is listed exactly.
func TestTwoMachinesAreTheSame(t *testing.T) {
	t.Parallel()
	first := newMachine(t, sealed, "first")
	first.boot()
	second := newMachine(t, fx.Disk(), "second")
	second.boot()
	if a, b := first.status().Running, second.status().Running; a != b || a == "" {
		t.Errorf("image digests of two machines: %q and %q", a, b)
	}

	// What every machine makes for itself at its first boot, and nothing else.
	base := second.sh("ashlar etc diff")
	second.sh(`echo 'color = red' >> /etc/story.conf; rm /etc/motd; mkdir /etc/story.d; echo new > /etc/story.d/10.conf; chmod 600 /etc/fstab`)
	diff := second.sh("ashlar etc diff")
	var added []string
	for _, line := range lines(diff) {
		if !strings.Contains(base, line) {
			added = append(added, line)
		}
	}
	want := []string{
		"changed /etc/fstab (metadata)",
		"removed /etc/motd",
		"changed /etc/story.conf (content)",
		"added /etc/story.d",
		"added /etc/story.d/10.conf",
	}
	if got := strings.Join(added, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("etc diff lists\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	second.sh("ashlar etc reset /etc/story.conf && ashlar etc reset /etc/motd")
	if diff := second.sh("ashlar etc diff"); strings.Contains(diff, "story.conf") || strings.Contains(diff, "motd") {
		t.Errorf("after a reset etc diff still lists\n%s", diff)
	}
}
