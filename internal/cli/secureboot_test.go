package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/authenticode"
	"github.com/ashlar-os/ashlar/internal/image/efivar"
	"github.com/ashlar-os/ashlar/internal/machine/boot"
	"github.com/ashlar-os/ashlar/internal/machine/esp/esptest"
	"github.com/ashlar-os/ashlar/internal/machine/secureboot"
	keys "github.com/ashlar-os/ashlar/internal/publish/secureboot"
)

// signedMachine is a machine whose loader and boot file are signed with the
// keys of a publisher, in dir.
type signedMachine struct {
	*fakeMachine
	dir string
}

func newSignedMachine(t *testing.T) *signedMachine {
	t.Helper()
	f, v1 := newFakeMachine(t)
	t.Setenv(passphraseVariable, "words")
	m := &signedMachine{f, filepath.Join(t.TempDir(), "keys")}
	m.ok("Acme Secure Boot db", "secureboot", "init", m.dir, "--name", "Acme")
	path := "efi/EFI/Linux/" + f.c.BootFiles()[0]
	m.write(path, m.sign(v1.UKI))
	m.write("efi/EFI/BOOT/BOOTX64.EFI", m.sign(esptest.UKI("ID=loader\n", "x")))
	m.set("SecureBoot", efivar.VendorGlobal, 0)
	m.set("SetupMode", efivar.VendorGlobal, 1)
	return m
}

// sign signs a program with the publisher's db key.
func (m *signedMachine) sign(program []byte) string {
	m.t.Helper()
	signer, err := keys.Signer(m.dir, "db", func() ([]byte, error) { return []byte("words"), nil })
	if err != nil {
		m.t.Fatal(err)
	}
	signed, err := signer.SignFile(program)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(signed)
}

func (m *signedMachine) set(name string, vendor efivar.GUID, content ...byte) {
	m.t.Helper()
	path := boot.VariablePath("", efivar.Variable{Name: name, Vendor: vendor}.File())
	m.write(path, "\x07\x00\x00\x00"+string(content))
}

// firmware does with what was written what firmware does: it takes the lists
// out of the updates, leaves setup mode, and checks from the next start on.
func (m *signedMachine) firmware() {
	m.t.Helper()
	for _, v := range []efivar.Variable{efivar.PK, efivar.KEK, efivar.DB} {
		b, err := os.ReadFile(boot.VariablePath(m.c.Root, v.File()))
		if err != nil {
			m.t.Fatal(err)
		}
		u, err := efivar.ParseUpdate(v, b[4:])
		if err != nil {
			m.t.Fatal(err)
		}
		m.set(v.Name, v.Vendor, efivar.Encode(u.Entries)...)
	}
	m.set("SecureBoot", efivar.VendorGlobal, 1)
	m.set("SetupMode", efivar.VendorGlobal, 0)
}

// TestEnroll: from setup mode to a firmware that checks, and what status says.
func TestEnroll(t *testing.T) {
	m := newSignedMachine(t)
	m.ok("secure boot SETUP MODE", "status")
	m.fails(exitError, "no such file", "secureboot", "enroll")
	m.ok("nothing was changed", "secureboot", "enroll", m.dir, "--dry-run")
	if _, err := os.Stat(boot.VariablePath(m.c.Root, efivar.PK.File())); err == nil {
		t.Error("--dry-run wrote PK")
	}

	loader := filepath.Join(m.c.Root, "efi/EFI/BOOT/BOOTX64.EFI")
	signed, err := os.ReadFile(loader)
	if err != nil {
		t.Fatal(err)
	}
	m.write("efi/EFI/BOOT/BOOTX64.EFI", string(esptest.UKI("ID=loader\n", "x")))
	m.fails(exitError, `BOOTX64.EFI" would not start any more: it is not signed`, "secureboot", "enroll", m.dir)
	m.write("efi/EFI/BOOT/BOOTX64.EFI", string(signed))

	m.ok("the loader enrols them at the next start (force)", "secureboot", "enroll", m.dir, "--by-loader=force")
	m.ok("enrolled; from its next start on", "secureboot", "enroll") // what the loader was left
	m.firmware()
	m.ok("firmware has these keys", "secureboot", "enroll", m.dir)

	s := m.status().SecureBoot
	if s.Mode != secureboot.On || s.Error != "" || s.BootFile == nil || !s.BootFile.Trusted || s.BootFile.Signer != "CN=Acme Secure Boot db" {
		t.Errorf("status: %+v, %+v", s, s.BootFile)
	}
	if len(s.Loaders) != 1 || !s.Loaders[0].Trusted || s.Loaders[0].File != "EFI/BOOT/BOOTX64.EFI" {
		t.Errorf("loaders: %+v", s.Loaders)
	}
	m.ok("started by  a boot file signed by CN=Acme Secure Boot db\n", "status")

	other := filepath.Join(t.TempDir(), "other")
	m.ok("", "secureboot", "init", other)
	m.fails(exitError, `a platform key already, of "CN=Acme Secure Boot PK"`, "secureboot", "enroll", other)
	m.ok("", "secureboot", "allow", m.dir, filepath.Join(other, "secureboot", "db.crt"))
	m.fails(exitError, "in setup mode only", "secureboot", "enroll", m.dir, "--by-loader")
	m.ok("db is changed", "secureboot", "enroll", m.dir)
	m.fails(exitUsage, "want if-safe or force", "secureboot", "enroll", "--by-loader=off")

	m.write("efi/EFI/BOOT/BOOTX64.EFI", "garbage")
	m.ok("EFI/BOOT/BOOTX64.EFI would not start any more: it is no EFI program", "status")
}

// TestUpdateUnderSecureBoot: what the firmware would not start is not staged.
func TestUpdateUnderSecureBoot(t *testing.T) {
	m := newSignedMachine(t)
	m.ok("", "secureboot", "enroll", m.dir)
	m.firmware()
	v2 := m.publish("2.0.0")
	before := m.c.BootFiles()
	m.fails(exitError, "cannot stage server-2.0.0: this machine's firmware enforces Secure Boot, and would not start the boot file: it is not signed", "update")
	if after := m.c.BootFiles(); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("boot files %q, then %q", before, after)
	}
	if _, err := authenticode.Read(strings.NewReader(string(v2.UKI)), int64(len(v2.UKI))); err != nil {
		t.Errorf("the boot file is refused for another reason: %v", err)
	}
	m.set("SecureBoot", efivar.VendorGlobal, 0)
	m.ok("server-2.0.0 is staged", "update")
	m.ok("secure boot OFF", "status")
}
