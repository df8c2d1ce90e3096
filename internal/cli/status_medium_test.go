package cli

import (
	"strings"
	"testing"
)

// A system that runs from a medium says so, and refuses every verb that would
// change a machine, with what to do instead.
func TestOnAMedium(t *testing.T) {
	f, v1 := newFakeMachine(t)
	f.write("run/ashlar/boot.json", `{"schema": 1, "image": "`+v1.Image().String()+`", "foreign": "refuse", "ignored": [],
		"medium": {"device": "/dev/sr0", "root_hash": "`+strings.Repeat("ab", 32)+`", "payload": "/dev/dm-1"}}`)
	f.write("usr/lib/os-release", "NAME=\"Debian GNU/Linux\"\nIMAGE_ID=server\nIMAGE_VERSION=\"1.0.0\"\n")
	f.write("proc/1/mountinfo", `23 1 0:21 / / ro,relatime - overlay ashlar ro,lowerdir+=/e,datadir+=/o,redirect_dir=on,metacopy=on
24 23 254:1 / /sysroot ro,nosuid,nodev - erofs /dev/dm-1 ro
`)
	f.ok(`medium      "/dev/sr0" runs server-1.0.0, image `+v1.Image().Short()+"; nothing is installed by that\n"+
		"root        sealed: the kernel checks every block of the medium at every read (dm-verity)\n", "status")
	answer := f.status()
	if m := answer.Medium; m == nil || m.Device != "/dev/sr0" || m.Version != "1.0.0" || !answer.Sealed || len(answer.Deployments) != 0 || answer.Running != v1.Image().String() {
		t.Errorf("status --json: %+v", answer)
	}
	before := f.c.BootFiles()
	for _, args := range [][]string{
		{"update"}, {"update", "--check"}, {"switch", "registry.example/acme/other:stable"}, {"rollback"}, {"gc"},
		{"pin", "1.0.0"}, {"verify"}, {"verify", "--repair"}, {"history"}, {"etc", "diff"}, {"etc", "reset", "/etc/motd"},
		{"boot-record"},
	} {
		f.fails(exitError, `this system runs from the install medium "/dev/sr0", which nothing changes`, args...)
	}
	if after := f.c.BootFiles(); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("boot files %q became %q", before, after)
	}

	f.write("proc/1/mountinfo", "23 1 254:2 / / rw,relatime - ext4 /dev/sda2 rw\n")
	f.ok("root        NOT SEALED: the root is not the medium's", "status")
}

// An encrypted root is said, with the wrong passphrases that were given.
func TestEncryptedStatus(t *testing.T) {
	f, v1 := newFakeMachine(t)
	for wrong, want := range map[string]string{
		"0": "encrypted   \"/dev/vda2\" is LUKS2\n",
		"1": "\"/dev/vda2\" is LUKS2; unlocked after 1 wrong passphrase\n",
		"3": "\"/dev/vda2\" is LUKS2; unlocked after 3 wrong passphrases\n",
	} {
		f.write("run/ashlar/boot.json", `{"schema": 1, "image": "`+v1.Image().String()+`", "foreign": "refuse", "ignored": [],
			"encryption": {"device": "/dev/vda2", "uuid": "0b1c", "wrong": `+wrong+`}}`)
		f.ok(want, "status")
	}
	if e := f.status().Encryption; e == nil || e.Device != "/dev/vda2" {
		t.Errorf("status --json: %+v", e)
	}
}
