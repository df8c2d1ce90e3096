package secureboot

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/efivar"
	"github.com/ashlar-os/ashlar/internal/trust/keyfile"
)

var now = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func words() ([]byte, error) { return []byte("some words"), nil }

func newKeys(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "keys")
	o := InitOptions{Name: "Acme", Bits: 2048, Now: now, Passphrase: []byte("some words")}
	if err := Init(dir, o); err != nil {
		t.Fatal(err)
	}
	return dir
}

func enrolment(t *testing.T, dir string) *efivar.Enrolment {
	t.Helper()
	e, err := efivar.ReadEnrolment(os.DirFS(filepath.Join(dir, Directory)))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestInit(t *testing.T) {
	dir := newKeys(t)
	e := enrolment(t, dir)
	for name, u := range map[string]*efivar.Update{"PK": e.PK, "KEK": e.KEK, "db": e.DB} {
		certs, err := efivar.Certificates(u.Entries)
		if err != nil || len(certs) != 1 {
			t.Fatalf("%s holds %d certificates: %v", name, len(certs), err)
		}
		if got, want := certs[0].Subject.String(), "CN=Acme Secure Boot "+name; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
		if !u.Time.Equal(now) {
			t.Errorf("%s is of %s", name, u.Time)
		}
		signer, err := Signer(dir, name, words)
		if err != nil || !signer.Certificate().Equal(certs[0]) {
			t.Errorf("the key of %s: %v", name, err)
		}
		st, err := os.Stat(filepath.Join(dir, Directory, name+".key"))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("the key of %s has mode %v, %v", name, st.Mode(), err)
		}
	}
	if _, err := Signer(dir, "db", func() ([]byte, error) { return []byte("others"), nil }); !errors.Is(err, keyfile.ErrPassphrase) {
		t.Errorf("a wrong passphrase: %v", err)
	}
	before, err := os.ReadDir(filepath.Join(dir, Directory))
	if err != nil || len(before) != 10 {
		t.Errorf("%d files, %v", len(before), err)
	}
	err = Init(dir, InitOptions{Name: "Acme", Bits: 2048, Now: now, Passphrase: []byte("x")})
	if err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("keys over keys: %v", err)
	}
}

func TestInitRefuses(t *testing.T) {
	for _, c := range []struct {
		want string
		o    InitOptions
	}{
		{"1024 bits", InitOptions{Name: "Acme", Bits: 1024, Now: now, Passphrase: []byte("x")}},
		{"0 bytes", InitOptions{Bits: 2048, Now: now, Passphrase: []byte("x")}},
		{"passphrase is empty", InitOptions{Name: "Acme", Bits: 2048, Now: now}},
	} {
		dir := t.TempDir()
		if err := Init(dir, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", c.want, left, err)
		}
	}
}

// TestAllow: a second certificate comes into db beside the first, in an update
// that firmware takes for a later one, also when the clock stood still.
func TestAllow(t *testing.T) {
	dir, other := newKeys(t), newKeys(t)
	next, err := ReadCertificate(filepath.Join(other, Directory, "db.crt"))
	if err != nil {
		t.Fatal(err)
	}
	o := AllowOptions{Now: now, Passphrase: words}
	if err := Allow(dir, []*x509.Certificate{next}, o); err != nil {
		t.Fatal(err)
	}
	e := enrolment(t, dir)
	certs, err := efivar.Certificates(e.DB.Entries)
	if err != nil || len(certs) != 2 || !certs[1].Equal(next) {
		t.Errorf("db holds %d certificates: %v", len(certs), err)
	}
	if !e.DB.Time.After(now) {
		t.Errorf("the update is of %s, no later than the one before", e.DB.Time)
	}
	if err := Allow(dir, []*x509.Certificate{next}, o); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("the same again: %v", err)
	}
	o.Only = true
	if err := Allow(dir, []*x509.Certificate{next}, o); err != nil {
		t.Fatal(err)
	}
	again := enrolment(t, dir)
	if certs, err := efivar.Certificates(again.DB.Entries); err != nil || len(certs) != 1 || !certs[0].Equal(next) || !again.DB.Time.After(e.DB.Time) {
		t.Errorf("db holds %d certificates, of %s: %v", len(certs), again.DB.Time, err)
	}
}

// TestMixedEnrolment: files of two publishers are no enrolment.
func TestMixedEnrolment(t *testing.T) {
	one, two := newKeys(t), newKeys(t)
	for _, file := range efivar.Files {
		mixed := t.TempDir()
		for _, f := range efivar.Files {
			from := one
			if f == file {
				from = two
			}
			b, err := os.ReadFile(filepath.Join(from, Directory, f))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(mixed, f), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := efivar.ReadEnrolment(os.DirFS(mixed)); err == nil || !strings.Contains(err.Error(), "firmware would refuse it") {
			t.Errorf("%s of another: %v", file, err)
		}
	}
	if _, err := efivar.ReadEnrolment(os.DirFS(t.TempDir())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
}
