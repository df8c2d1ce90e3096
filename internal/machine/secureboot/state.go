package secureboot

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/ashlar-os/ashlar/internal/image/efivar"
	"github.com/ashlar-os/ashlar/internal/machine/boot"
)

// Mode is what a firmware does about signatures.
type Mode string

// The modes.
const (
	On      Mode = "on"      // it starts only what db allows
	Off     Mode = "off"     // it has keys, and does not check
	Setup   Mode = "setup"   // it has no platform key: whoever starts first brings one
	Unknown Mode = "unknown" // it does not say
)

// State is what the firmware says about Secure Boot.
type State struct {
	Mode Mode
	Err  error // why the mode is unknown, or db or dbx could not be read

	db, dbx database
	pk      []efivar.Entry
}

// database is the content of db or dbx.
type database struct {
	entries []efivar.Entry
	certs   []*x509.Certificate
	hashes  map[[sha256.Size]byte]bool // of programs
	revoked map[[sha256.Size]byte]bool // of the signed parts of certificates
}

// Read reads the EFI variables below root, which is "/" but in tests.
func Read(root string) *State {
	s := &State{Mode: Unknown}
	if _, err := os.Stat(boot.VariablePath(root, "")); err != nil {
		s.Err = errors.New("this machine was not started by EFI firmware, or its variables are not mounted")
		return s
	}
	on, err := flag(root, "SecureBoot")
	if err != nil {
		s.Err = err
		return s
	}
	setup, err := flag(root, "SetupMode")
	if err != nil {
		s.Err = err
		return s
	}
	switch {
	case on:
		s.Mode = On
	case setup:
		s.Mode = Setup
	default:
		s.Mode = Off
	}
	if s.pk, err = entries(root, efivar.PK); err != nil {
		s.Err = err
	}
	for _, v := range []struct {
		efivar.Variable
		to *database
	}{{efivar.DB, &s.db}, {efivar.DBX, &s.dbx}} {
		list, err := entries(root, v.Variable)
		if err != nil {
			s.Err = err
			continue
		}
		*v.to = newDatabase(list)
	}
	return s
}

// Enforces reports whether the firmware starts only what db allows.
func (s *State) Enforces() bool { return s != nil && s.Mode == On }

// flag reads a variable of one byte; false where it is not set.
func flag(root, name string) (bool, error) {
	b, err := boot.Variable(root, efivar.Variable{Name: name, Vendor: efivar.VendorGlobal}.File())
	if err != nil || b == nil {
		return false, err
	}
	if len(b) != 1 || b[0] > 1 {
		return false, fmt.Errorf("EFI variable %q is %x, want 0 or 1", name, b)
	}
	return b[0] == 1, nil
}

func entries(root string, v efivar.Variable) ([]efivar.Entry, error) {
	b, err := boot.Variable(root, v.File())
	if err != nil {
		return nil, err
	}
	list, err := efivar.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("reading EFI variable %q: %w", v.Name, err)
	}
	return list, nil
}

// newDatabase sorts entries by what they are about. Types that are not known
// here are of no use in db; in dbx, firmware may refuse more than is said here.
func newDatabase(list []efivar.Entry) database {
	d := database{entries: list, hashes: make(map[[sha256.Size]byte]bool), revoked: make(map[[sha256.Size]byte]bool)}
	// A certificate that cannot be read verifies nothing, in db and in dbx;
	// that of a signer is looked for by its bytes besides.
	d.certs, _ = efivar.Certificates(list)
	for _, e := range list {
		switch {
		case e.Type == efivar.TypeSHA256 && len(e.Data) == sha256.Size:
			d.hashes[[sha256.Size]byte(e.Data)] = true
		case e.Type == efivar.TypeX509SHA256 && len(e.Data) >= sha256.Size:
			// Since when it is revoked matters to signatures with a trusted
			// time. Boot files have none.
			d.revoked[[sha256.Size]byte(e.Data)] = true
		}
	}
	return d
}

// has reports whether the X.509 entries hold exactly this certificate.
func (d *database) has(cert *x509.Certificate) bool {
	for _, e := range d.entries {
		if e.Type == efivar.TypeX509 && bytes.Equal(e.Data, cert.Raw) {
			return true
		}
	}
	return false
}
