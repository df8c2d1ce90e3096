package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
)

// TestVerifyVerb: damage is named by the files it is in, what covers the sealed
// root by its mount point, and a root that is not sealed is not good.
func TestVerifyVerb(t *testing.T) {
	f, v1 := newFakeMachine(t)
	f.ok("good: 1 images, 13 objects", "verify")
	const mounts = "proc/1/mountinfo"
	sealed, err := os.ReadFile(filepath.Join(f.c.Root, mounts))
	if err != nil {
		t.Fatal(err)
	}
	f.write(mounts, string(sealed)+"2 1 0:2 / /usr/bin ro - tmpfs tmpfs ro\n3 1 0:3 / /var rw - ext4 /dev/vda2 rw\n")
	text, _, code := f.run("verify")
	if code != exitDamaged || !strings.Contains(text, `covered /usr/bin: tmpfs "tmpfs" is mounted over it`) || strings.Contains(text, "/var") || !strings.Contains(text, "NOT GOOD: ") {
		t.Errorf("with a mount: %d\n%s", code, text)
	}
	f.write(mounts, "1 0 0:1 / / rw - ext4 /dev/vda2 rw\n")
	if text, _, code := f.run("verify"); code != exitDamaged || !strings.Contains(text, "not sealed: ") {
		t.Errorf("not sealed: %d\n%s", code, text)
	}
	f.ok("NOT SEALED", "status")
	f.write(mounts, string(sealed))

	image, err := composefs.ReadBytes(v1.EROFS)
	if err != nil {
		t.Fatal(err)
	}
	victim := image.Lookup("/usr/lib/file03").Digest
	object := f.c.Store().ObjectPath(victim)
	b, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if err := os.Chmod(object, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(object, b, 0o600); err != nil {
		t.Fatal(err)
	}
	text, _, code = f.run("verify", "1.0.0")
	if code != exitDamaged || !strings.Contains(text, "/usr/lib/file03 of "+v1.Image().Short()) || strings.Count(text, "damaged ") != 1 {
		t.Errorf("one byte of one object: %d\n%s", code, text)
	}
	f.fails(exitError, `no deployment here is "9"`, "verify", "9")
}

// TestVerifyWithoutTheESP: what keeps the boot entries from being read does not
// keep the root from being measured, and is not called good.
func TestVerifyWithoutTheESP(t *testing.T) {
	f, _ := newFakeMachine(t)
	entries := filepath.Join(f.c.Root, "efi/EFI/Linux")
	if err := os.RemoveAll(entries); err != nil {
		t.Fatal(err)
	}
	f.write("efi/EFI/Linux", "not a directory\n")
	text, said, code := f.run("verify")
	if code != exitDamaged || !strings.Contains(text, "NOT GOOD: 1 images, 13 objects") || !strings.Contains(said, "boot entries") {
		t.Errorf("%d\n%s%s", code, text, said)
	}
}

// TestEtcVerbs: the difference from the image's /etc is the upper directory, and
// a part of it can be taken back.
func TestEtcVerbs(t *testing.T) {
	f, v1 := newFakeMachine(t)
	f.write("usr/etc/motd", "the image's\n")
	if out := f.ok("", "etc", "diff"); out != "" {
		t.Errorf("nothing was changed: %q", out)
	}
	f.write(f.etc(v1, "motd"), "mine\n")
	f.write(f.etc(v1, "added.conf"), "new\n")
	// The two as overlayfs would show them.
	f.write("etc/motd", "mine\n")
	f.write("etc/added.conf", "new\n")
	out := f.ok("/etc/motd", "etc", "diff")
	if !strings.Contains(out, "/etc/added.conf") || strings.Count(out, "\n") != 2 {
		t.Errorf("etc diff:\n%s", out)
	}
	var answer etcAnswer
	f.answer(&answer, "etc", "diff", "--json")
	if len(answer.Changes) != 2 {
		t.Errorf("etc diff --json: %+v", answer)
	}
	f.fails(exitError, "/usr/lib", "etc", "reset", "/usr/lib")
}
