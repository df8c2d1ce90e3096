package secureboot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/authenticode"
	"github.com/ashlar-os/ashlar/internal/image/authenticode/authenticodetest"
	"github.com/ashlar-os/ashlar/internal/image/efivar"
	"github.com/ashlar-os/ashlar/internal/machine/boot"
	"github.com/ashlar-os/ashlar/internal/machine/esp/esptest"
	"github.com/ashlar-os/ashlar/internal/program"
)

var now = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// firmware is a directory that plays a machine with EFI firmware.
type firmware struct {
	t    *testing.T
	root string
}

func newFirmware(t *testing.T, on, setup byte) *firmware {
	f := &firmware{t, t.TempDir()}
	f.set(efivar.Variable{Name: "SecureBoot", Vendor: efivar.VendorGlobal}, []byte{on})
	f.set(efivar.Variable{Name: "SetupMode", Vendor: efivar.VendorGlobal}, []byte{setup})
	return f
}

func (f *firmware) set(v efivar.Variable, content []byte) {
	f.t.Helper()
	path := boot.VariablePath(f.root, v.File())
	must(f.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(f.t, os.WriteFile(path, append([]byte{7, 0, 0, 0}, content...), 0o644))
}

func (f *firmware) holds(v efivar.Variable, entries ...efivar.Entry) {
	f.t.Helper()
	f.set(v, efivar.Encode(entries))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func x509Entry(id *authenticodetest.Identity) efivar.Entry {
	return efivar.Entry{Type: efivar.TypeX509, Data: id.Certificate().Raw}
}

func hashEntry(program []byte) efivar.Entry {
	image, err := authenticode.Read(bytes.NewReader(program), int64(len(program)))
	if err != nil {
		panic(err)
	}
	return efivar.Entry{Type: efivar.TypeSHA256, Data: image.Digest[:]}
}

func revokedEntry(cert *x509.Certificate) efivar.Entry {
	sum := sha256.Sum256(cert.RawTBSCertificate)
	return efivar.Entry{Type: efivar.TypeX509SHA256, Data: append(sum[:], make([]byte, 16)...)}
}

// sign signs a boot file by each, with Debian's sbsign.
func sign(t *testing.T, program []byte, by ...*authenticodetest.Identity) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "boot.efi")
	must(t, os.WriteFile(path, program, 0o644))
	for _, id := range by {
		run(t, "sbsign", "--key", id.KeyFile, "--cert", id.CertFile, "--output", path, path)
	}
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

func run(t *testing.T, args ...string) {
	t.Helper()
	_, err := program.Run(context.Background(), program.Command{Args: args})
	must(t, err)
}

func TestMode(t *testing.T) {
	for _, c := range []struct {
		on, setup byte
		want      Mode
	}{{1, 0, On}, {0, 0, Off}, {0, 1, Setup}, {0, 2, Unknown}} {
		s := Read(newFirmware(t, c.on, c.setup).root)
		if s.Mode != c.want || (s.Err != nil) != (c.want == Unknown) || s.Enforces() != (c.want == On) {
			t.Errorf("SecureBoot %d, SetupMode %d: %s, %v", c.on, c.setup, s.Mode, s.Err)
		}
	}
	if s := Read(t.TempDir()); s.Mode != Unknown || s.Err == nil {
		t.Errorf("no EFI: %s, %v", s.Mode, s.Err)
	}
	var none *State
	if none.Enforces() {
		t.Error("a machine that was not asked enforces")
	}
}

// TestJudge: what firmware would start and what not, and why.
func TestJudge(t *testing.T) {
	ours, foreign, third := authenticodetest.New(t, "ours"), authenticodetest.New(t, "foreign"), authenticodetest.New(t, "third")
	plain := esptest.UKI("ID=ashlar\nNAME=x\n", "ashlar.image=")
	good, bad := sign(t, plain, ours), sign(t, plain, foreign)
	both := sign(t, plain, foreign, ours)
	changed := bytes.Clone(good)
	changed[600] ^= 1
	type entries = []efivar.Entry
	for _, c := range []struct {
		name    string
		db, dbx entries
		program []byte
		reason  string // "": it starts
	}{
		{"signed by db", entries{x509Entry(ours)}, nil, good, ""},
		{"by one of two in db", entries{x509Entry(third), x509Entry(ours)}, nil, good, ""},
		{"signed twice", entries{x509Entry(ours)}, nil, both, ""},
		{"not signed", entries{x509Entry(ours)}, nil, plain, "it is not signed"},
		{"foreign", entries{x509Entry(ours)}, nil, bad, `it is signed by "CN=foreign", which db does not hold`},
		{"changed", entries{x509Entry(ours)}, nil, changed, "it was changed after it was signed"},
		{"empty db", nil, nil, good, `it is signed by "CN=ours", which db does not hold`},
		{"hash in db", entries{hashEntry(plain)}, nil, plain, ""},
		{"hash of another in db", entries{hashEntry(esptest.UKI("ID=y\n", "y"))}, nil, plain, "it is not signed"},
		{"hash in dbx", entries{x509Entry(ours)}, entries{hashEntry(good)}, good, "dbx holds its hash"},
		{"hash in both", entries{hashEntry(plain)}, entries{hashEntry(plain)}, plain, "dbx holds its hash"},
		{"signer in dbx", entries{x509Entry(ours)}, entries{x509Entry(ours)}, good, `dbx revokes "CN=ours"`},
		{"signer's hash in dbx", entries{x509Entry(ours)}, entries{revokedEntry(ours.Certificate())}, good, `dbx revokes "CN=ours"`},
		{"one of two signers in dbx", entries{x509Entry(ours)}, entries{x509Entry(foreign)}, both, `dbx revokes "CN=foreign"`},
		{"somebody else in dbx", entries{x509Entry(ours)}, entries{x509Entry(third), revokedEntry(foreign.Certificate())}, good, ""},
		{"no program", entries{x509Entry(ours)}, nil, []byte("text"), "it is no EFI program"},
	} {
		f := newFirmware(t, 1, 0)
		f.holds(efivar.DB, c.db...)
		f.holds(efivar.DBX, c.dbx...)
		s := Read(f.root)
		must(t, s.Err)
		v := s.Judge(bytes.NewReader(c.program), int64(len(c.program)))
		if v.Trusted != (c.reason == "") || !strings.Contains(v.Reason, c.reason) {
			t.Errorf("%s: %+v, want reason %q", c.name, v, c.reason)
		}
		err := s.Check(bytes.NewReader(c.program), int64(len(c.program)))
		if (err == nil) != v.Trusted || err != nil && !strings.Contains(err.Error(), "would not start the boot file: "+v.Reason) {
			t.Errorf("%s: %v", c.name, err)
		}
		off := newFirmware(t, 0, 0)
		if err := Read(off.root).Check(bytes.NewReader(c.program), int64(len(c.program))); err != nil {
			t.Errorf("%s, with Secure Boot off: %v", c.name, err)
		}
	}
}

// TestUnreadable: a db that cannot be read trusts nobody, and says so.
func TestUnreadable(t *testing.T) {
	ours := authenticodetest.New(t, "ours")
	good := sign(t, esptest.UKI("ID=x\n", "x"), ours)
	f := newFirmware(t, 1, 0)
	f.holds(efivar.DB, x509Entry(ours))
	f.set(efivar.DBX, []byte("damage"))
	s := Read(f.root)
	if err := s.Check(bytes.NewReader(good), int64(len(good))); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("%v", err)
	}
}

// publisher has the keys that a machine enrols.
type publisher struct{ pk, kek, db *authenticodetest.Identity }

func newPublisher(t *testing.T) *publisher {
	return &publisher{authenticodetest.New(t, "PK"), authenticodetest.New(t, "KEK"), authenticodetest.New(t, "db")}
}

func (p *publisher) enrolment(t *testing.T, db ...efivar.Entry) *efivar.Enrolment {
	t.Helper()
	dir := fstest.MapFS{}
	for _, v := range []struct {
		efivar.Variable
		by      *authenticodetest.Identity
		entries []efivar.Entry
	}{{efivar.PK, p.pk, []efivar.Entry{x509Entry(p.pk)}}, {efivar.KEK, p.pk, []efivar.Entry{x509Entry(p.kek)}}, {efivar.DB, p.kek, db}} {
		b, err := efivar.Sign(v.Variable, v.entries, now, v.by.Signer)
		must(t, err)
		dir[v.Name+".auth"] = &fstest.MapFile{Data: b}
	}
	e, err := efivar.ReadEnrolment(dir)
	must(t, err)
	return e
}

func writeFile(t *testing.T, path string, b []byte) string {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, b, 0o644))
	return path
}

// TestEnrol: setup mode takes all three, PK last; what would not start any more
// is found before.
func TestEnrol(t *testing.T) {
	p, other := newPublisher(t), newPublisher(t)
	e := p.enrolment(t, x509Entry(p.db))
	f := newFirmware(t, 0, 1)
	loader := esptest.UKI("ID=loader\n", "x")
	signed := writeFile(t, filepath.Join(f.root, "efi/EFI/BOOT/BOOTX64.EFI"), sign(t, loader, p.db))
	unsigned := writeFile(t, filepath.Join(f.root, "efi/unsigned.efi"), loader)

	if _, err := Read(f.root).PlanEnrol(e, []string{signed, unsigned}); err == nil || !strings.Contains(err.Error(), `unsigned.efi" would not start any more: it is not signed`) {
		t.Errorf("an unsigned loader: %v", err)
	}
	if _, err := Read(f.root).PlanEnrol(e, nil); err == nil || !strings.Contains(err.Error(), "no loader") {
		t.Errorf("no loader: %v", err)
	}
	plan, err := Read(f.root).PlanEnrol(e, []string{signed})
	must(t, err)
	if !slices.Equal(plan.Variables, []string{"db", "KEK", "PK"}) {
		t.Errorf("it writes %q", plan.Variables)
	}
	must(t, plan.Apply(f.root))
	for v, raw := range map[efivar.Variable][]byte{efivar.PK: e.RawPK, efivar.KEK: e.RawKEK, efivar.DB: e.RawDB} {
		b, err := os.ReadFile(boot.VariablePath(f.root, v.File()))
		if err != nil || !bytes.Equal(b, append([]byte{0x27, 0, 0, 0}, raw...)) {
			t.Errorf("%s: %v, or other bytes than the update", v.Name, err)
		}
	}

	// What firmware makes of them.
	f = newFirmware(t, 1, 0)
	f.holds(efivar.PK, x509Entry(p.pk))
	f.holds(efivar.KEK, x509Entry(p.kek))
	f.holds(efivar.DB, x509Entry(p.db))
	plan, err = Read(f.root).PlanEnrol(e, []string{signed})
	if err != nil || len(plan.Variables) != 0 {
		t.Errorf("enrolled already: %+v, %v", plan, err)
	}
	both := p.enrolment(t, x509Entry(p.db), x509Entry(other.db))
	plan, err = Read(f.root).PlanEnrol(both, []string{signed})
	if err != nil || !slices.Equal(plan.Variables, []string{"db"}) {
		t.Errorf("another certificate for db: %+v, %v", plan, err)
	}
	only := p.enrolment(t, x509Entry(other.db))
	if _, err = Read(f.root).PlanEnrol(only, []string{signed}); err == nil || !strings.Contains(err.Error(), "would not start any more") {
		t.Errorf("a db without the certificate in use: %v", err)
	}
	if _, err := Read(f.root).PlanEnrol(other.enrolment(t, x509Entry(other.db)), []string{signed}); err == nil || !strings.Contains(err.Error(), `a platform key already, of "CN=PK"`) {
		t.Errorf("another publisher: %v", err)
	}
	if _, err := Read(t.TempDir()).PlanEnrol(e, []string{signed}); err == nil || !strings.Contains(err.Error(), "not started by EFI") {
		t.Errorf("no EFI: %v", err)
	}
}

func TestLeaveToLoader(t *testing.T) {
	p := newPublisher(t)
	e := p.enrolment(t, x509Entry(p.db))
	dir := t.TempDir()
	conf := filepath.Join(dir, loaderConf)
	for _, c := range []struct{ before, how, after string }{
		{"", "if-safe", "secure-boot-enroll if-safe\n"},
		{"timeout 0\neditor no\n", "force", "timeout 0\neditor no\nsecure-boot-enroll force\n"},
		{"secure-boot-enroll off\ntimeout 0", "force", "timeout 0\nsecure-boot-enroll force\n"},
	} {
		writeFile(t, conf, []byte(c.before))
		must(t, LeaveToLoader(dir, e, c.how))
		if b, err := os.ReadFile(conf); err != nil || string(b) != c.after {
			t.Errorf("%q becomes %q, want %q (%v)", c.before, b, c.after, err)
		}
	}
	again, err := efivar.ReadEnrolment(os.DirFS(filepath.Join(dir, AutoDir)))
	if err != nil || !bytes.Equal(again.RawPK, e.RawPK) || !bytes.Equal(again.RawDB, e.RawDB) {
		t.Errorf("what the loader finds: %v", err)
	}
	left, err := os.ReadDir(filepath.Join(dir, AutoDir))
	if err != nil || len(left) != 3 {
		t.Errorf("%d files, %v", len(left), err)
	}
}
