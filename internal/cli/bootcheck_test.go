package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHowItWasStarted: what is not the releases' in the start of a machine is
// named by status and verify, and is not good.
func TestHowItWasStarted(t *testing.T) {
	f, v1 := newFakeMachine(t)
	record := func(foreign, ignored string) {
		f.write("run/ashlar/boot.json", `{"schema": 1, "image": "`+v1.Image().String()+`", "foreign": "`+foreign+`", "ignored": [`+ignored+`]}`)
	}
	seen := func(what, status, verify string) {
		t.Helper()
		if out := f.ok("", "status"); !strings.Contains(out, status) {
			t.Errorf("%s: status does not say %q:\n%s", what, status, out)
		}
		out, _, code := f.run("verify")
		if code != exitDamaged || !strings.Contains(out, verify) || !strings.Contains(out, "NOT GOOD: ") {
			t.Errorf("%s: verify ends with %d and does not say %q:\n%s", what, code, verify, out)
		}
	}
	record("refuse", `"\"credentials/evil.cred\" from the ESP"`)
	f.ok("good: ", "verify")
	f.ok(`ignored     "credentials/evil.cred" from the ESP`, "status")

	cmdline, err := os.ReadFile(filepath.Join(f.c.Root, "proc/cmdline"))
	if err != nil {
		t.Fatal(err)
	}
	f.write("proc/cmdline", strings.Replace(string(cmdline), "quiet", "systemd.debug_shell", 1))
	seen("another command line", `parameters  NOT the boot file's: "systemd.debug_shell" added, "quiet" missing`, `parameters: NOT the boot file's: "systemd.debug_shell" added`)
	record("accept", "")
	f.ok("good: ", "verify")
	f.ok("this image accepts parameters and credentials from firmware: for tests only", "status")
	f.ok(`parameters  accepted beyond the boot file's: "systemd.debug_shell" added, "quiet" missing`, "status")
	if b := f.status().Boot; b.Foreign != "accept" || len(b.Added) != 1 || len(b.Missing) != 1 || len(b.Files) != 0 {
		t.Errorf("status --json: %+v", b)
	}
	f.write("proc/cmdline", string(cmdline))

	f.write("efi/loader/addons/evil.addon.efi", "")
	seen("an addon", `stray       "loader/addons/evil.addon.efi" on the ESP belongs to no release`, `stray: "loader/addons/evil.addon.efi"`)
	if err := os.RemoveAll(filepath.Join(f.c.Root, "efi/loader")); err != nil {
		t.Fatal(err)
	}

	file := f.c.BootFiles()[0]
	f.write("efi/EFI/Linux/"+file, string(v1.UKI)+"x")
	seen("another boot file", `changed     boot file "`+file+`" is not the one of server-1.0.0: its sha256 is `, `changed: boot file "`+file+`" is not the one of server-1.0.0`)
	f.write("efi/EFI/Linux/"+file, string(v1.UKI))
	f.ok("good: ", "verify")

	document := filepath.Join(f.c.Store().DeploymentPath(v1.Image()), "release.json")
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(document, []byte(strings.Replace(string(b), v1.Document.UKI.SHA256, strings.Repeat("0", 64), 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	seen("a document that fits another boot file", "nothing here says what it has to be", "nothing here says what it has to be")
	if err := os.Remove(document); err != nil {
		t.Fatal(err)
	}
	seen("no document", "server-1.0.0 has no release document", "server-1.0.0 has no release document")
}
