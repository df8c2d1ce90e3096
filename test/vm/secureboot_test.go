//go:build vm

package vm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/efivar"
	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/publish/secureboot"
	"github.com/ashlar-os/ashlar/internal/registry"
	"github.com/ashlar-os/ashlar/internal/vmtest"
	"github.com/ashlar-os/ashlar/test/fixture"
)

// TestSecureBoot: a disk brings its keys to a firmware in setup mode. From then
// on nothing starts that they did not sign, whoever puts it on the ESP; and no
// update is staged that would not start.
func TestSecureBoot(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(fx.Dir, t.Name())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(dir, "enrolls.raw")
	if _, err := fx.Ashlar(context.Background(), "disk", fx.Out()+":1.0.0", "-o", disk, "--enroll", fx.KeysDir()); err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, VM: vmtest.New(t, vmtest.Config{
		Name: "vm", Dir: filepath.Join(dir, "vm"), Base: disk, Firmware: vmtest.OVMFSecureBoot,
	})}

	// The loader enrols the keys and resets; the second start is a checked one.
	m.boot()
	console, err := os.ReadFile(m.Log)
	if err != nil {
		t.Fatal(err)
	}
	m.expectContains("the first start", string(console), "Custom Secure Boot keys successfully enrolled, rebooting the system now!")
	said := m.sh("ashlar status")
	m.expectContains("status", said, "secure boot on: the firmware starts only what its db allows\n")
	m.expectContains("status", said, "started by  a boot file signed by CN=Stories Secure Boot db\n")
	m.expectContains("status", said, "root        sealed")
	m.expectContains("the kernel", m.sh("dmesg"), "Secure boot enabled")
	m.expectContains("enrolling again", m.sh("ashlar secureboot enroll"), "this machine's firmware has these keys")
	m.fails("chattr -i /sys/firmware/efi/efivars/db-*; printf '\\047\\000\\000\\000nonsense' > $(echo /sys/firmware/efi/efivars/db-*)")

	// An update that somebody else signed for Secure Boot.
	foreign := filepath.Join(t.TempDir(), "keys")
	err = secureboot.Init(foreign, secureboot.InitOptions{Name: "Foreign", Bits: 2048, Now: time.Now(), Passphrase: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	site := openSite(t, "1.0.0")
	m.follow(site)
	site.publishResigned("1.5.0", foreign)
	m.expectContains("update", m.fails("ashlar update"), "cannot stage server-1.5.0: this machine's firmware enforces Secure Boot, and would not start the boot file: "+
		`it is signed by "CN=Foreign Secure Boot db", which db does not hold`)
	m.expect("release that boots next", m.status().Next.ID, "server-1.0.0")

	// With the power off, boot files that sort before the good one: one whose
	// command line was changed after it was signed, and one that is signed by
	// somebody else. And an addon that nobody signed, for the good one.
	stub, err := base64.StdEncoding.DecodeString(m.sh("base64 -w0 /usr/lib/systemd/boot/efi/addonx64.efi.stub"))
	if err != nil {
		t.Fatal(err)
	}
	m.step("shutdown", m.Shutdown)
	good := bootFileOf(t, "1.0.0")
	m.putOnESP(map[string][]byte{
		"/EFI/Linux/ashlar_9.0.0_aaaaaaaaaaaa+1.efi": bytes.Replace(good, []byte("ashlar.image="), []byte("ashlar.imags="), 1),
		"/EFI/Linux/ashlar_8.0.0_bbbbbbbbbbbb+1.efi": resign(t, good, foreign),
		"/loader/addons/evil.addon.efi":              addon(t, stub, "systemd.debug_shell"),
	})
	for _, name := range []string{"ashlar_9.0.0", "ashlar_8.0.0"} {
		m.step("start", m.Start)
		m.step("refusal of "+name, func(ctx context.Context) error {
			_, err := m.WaitConsole(ctx, "Error loading .*"+name+".*(Access denied|Security violation)")
			return err
		})
		m.PowerCut()
	}
	m.boot()
	m.expect("release that boots", m.version(), "1.0.0")
	if cmdline := m.sh("cat /proc/cmdline"); strings.Contains(cmdline, "debug_shell") {
		t.Errorf("the addon was taken: %s", cmdline)
	}
	m.expectContains("status", m.sh("ashlar status"), `stray       "loader/addons/evil.addon.efi" on the ESP`)
}

// TestSecureBootEnrolledByTheMachine: a machine that runs in setup mode writes
// the keys into its firmware itself, and later a db with one more certificate.
// What is older the firmware does not take.
func TestSecureBootEnrolledByTheMachine(t *testing.T) {
	t.Parallel()
	first, next := filepath.Join(t.TempDir(), "first"), filepath.Join(t.TempDir(), "next")
	if err := os.CopyFS(first, os.DirFS(filepath.Join(fx.KeysDir(), secureboot.Directory))); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(next, secureboot.Directory), os.DirFS(first)); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "keys")
	err := secureboot.Init(other, secureboot.InitOptions{Name: "Other", Bits: 2048, Now: time.Now(), Passphrase: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := secureboot.ReadCertificate(filepath.Join(other, secureboot.Directory, "db.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(next, secureboot.Directory, "KEK.key"), 0o600); err != nil { // CopyFS gives modes of its own
		t.Fatal(err)
	}
	err = secureboot.Allow(next, []*x509.Certificate{cert}, secureboot.AllowOptions{
		Now: time.Now(), Passphrase: func() ([]byte, error) { return []byte(fixture.Passphrase), nil },
	})
	if err != nil {
		t.Fatal(err)
	}

	m := &machine{t: t, VM: vmtest.New(t, vmtest.Config{
		Name: "vm", Dir: filepath.Join(fx.Dir, t.Name()), Base: sealed, Firmware: vmtest.OVMFSecureBoot,
	})}
	keys := map[string][]byte{}
	for set, dir := range map[string]string{"first": first, "next": filepath.Join(next, secureboot.Directory)} {
		for _, file := range efivar.Files {
			if keys["/"+set+"-"+file], err = os.ReadFile(filepath.Join(dir, file)); err != nil {
				t.Fatal(err)
			}
		}
	}
	m.putOnESP(keys)
	m.boot()
	m.sh("for set in first next; do mkdir /run/$set; for f in PK KEK db; do cp /efi/$set-$f.auth /run/$set/$f.auth; done; done")
	m.expectContains("status", m.sh("ashlar status"), "secure boot SETUP MODE")
	m.expectContains("enrolling", m.sh("ashlar secureboot enroll /run/first"), "enrolled; from its next start on")
	m.reboot()
	m.expectContains("status", m.sh("ashlar status"), "secure boot on: the firmware starts only what its db allows\n")

	m.sh("for set in first next; do mkdir /run/$set; for f in PK KEK db; do cp /efi/$set-$f.auth /run/$set/$f.auth; done; done")
	m.expectContains("enrolling again", m.sh("ashlar secureboot enroll /run/first"), "this machine's firmware has these keys")
	m.expectContains("one more certificate", m.sh("ashlar secureboot enroll /run/next"), "db is changed")
	m.expectContains("the same again", m.sh("ashlar secureboot enroll /run/next"), "this machine's firmware has these keys")
	m.expectContains("the older db", m.fails("ashlar secureboot enroll /run/first"), "the firmware does not take db")
}

// bootFileOf is the boot file of a release.
func bootFileOf(t *testing.T, version string) []byte {
	t.Helper()
	ctx, cancel := stepContext()
	defer cancel()
	rel, err := fx.Release(ctx, version)
	if err != nil {
		t.Fatal(err)
	}
	return readAll(t, rel.OpenUKI)
}

func readAll(t *testing.T, open func(context.Context) (io.ReadCloser, error)) []byte {
	t.Helper()
	r, err := open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// resign takes the signature of a boot file away and puts that of another
// publisher's db key there, with Debian's tools and ours.
func resign(t *testing.T, uki []byte, keys string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "boot.efi")
	if err := os.WriteFile(path, uki, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := program.Run(context.Background(), program.Command{Args: []string{"sbattach", "--remove", path}}); err != nil {
		t.Fatal(err)
	}
	unsigned, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := secureboot.Signer(keys, "db", func() ([]byte, error) { return []byte("x"), nil })
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.SignFile(unsigned)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// publishResigned publishes release 2.0.0 under another version, with its boot
// file signed for Secure Boot by somebody else. The release itself is signed as
// it must be.
func (s *site) publishResigned(version, keys string) {
	s.t.Helper()
	ctx, cancel := stepContext()
	defer cancel()
	rel, err := fx.Release(ctx, "2.0.0")
	if err != nil {
		s.t.Fatal(err)
	}
	uki := resign(s.t, readAll(s.t, rel.OpenUKI), keys)
	sum := sha256.Sum256(uki)
	doc := *rel.Document
	doc.Version, doc.ID = version, doc.Name+"-"+version
	doc.UKI = release.File{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(uki))}
	dir := s.t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o644); err != nil {
			s.t.Fatal(err)
		}
		return path
	}
	layout, err := registry.CreateLayout(s.Site())
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = layout.WriteRelease(ctx, registry.ReleaseInput{
		Document: &doc, EROFS: write("erofs", readAll(s.t, rel.OpenEROFS)), UKI: write("uki", uki), Pack: write("pack", readAll(s.t, rel.OpenPack)),
		DiffID:    fmt.Sprintf("sha256:%064d", 0), // for containers, and nobody runs it as one
		PackIndex: readAll(s.t, rel.OpenPackIndex), SBOM: readAll(s.t, rel.OpenSBOM), Lock: readAll(s.t, rel.OpenLock),
		Tags: []string{"stable"},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.Sign(ctx, version, "stable"); err != nil {
		s.t.Fatal(err)
	}
}
