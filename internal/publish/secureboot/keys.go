package secureboot

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/ashlar-os/ashlar/internal/image/authenticode"
	"github.com/ashlar-os/ashlar/internal/image/efivar"
	"github.com/ashlar-os/ashlar/internal/limited"
	"github.com/ashlar-os/ashlar/internal/trust/keyfile"
)

// maxCertificate limits a certificate's file, in bytes.
const maxCertificate = 64 << 10

// Signer opens the key of a role, "db" to sign boot files, in the publisher's
// key directory dir.
func Signer(dir, role string, passphrase func() ([]byte, error)) (*authenticode.Signer, error) {
	path := filepath.Join(dir, Directory, role)
	cert, err := limited.File(path+".crt", maxCertificate)
	if err != nil {
		return nil, err
	}
	key, err := keyfile.Read(path+".key", passphrase)
	if err != nil {
		return nil, err
	}
	signer, err := authenticode.NewSigner(cert, key)
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", path+".key", err)
	}
	return signer, nil
}

// AllowOptions are the choices for a change of db.
type AllowOptions struct {
	Only       bool // the certificates take the place of those that are there
	Now        time.Time
	Passphrase func() ([]byte, error) // of KEK.key
}

// Allow adds certificates to db.auth: what they sign starts as well, on
// machines that enrol it.
func Allow(dir string, certs []*x509.Certificate, o AllowOptions) error {
	keys := filepath.Join(dir, Directory)
	e, err := efivar.ReadEnrolment(os.DirFS(keys))
	if err != nil {
		return err
	}
	text, err := limited.File(filepath.Join(keys, ownerFile), maxCertificate)
	if err != nil {
		return err
	}
	owner, err := efivar.ParseGUID(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("%q: %w", filepath.Join(keys, ownerFile), err)
	}
	entries := e.DB.Entries
	if o.Only {
		entries = nil
	}
	for _, cert := range certs {
		known := func(e efivar.Entry) bool { return e.Type == efivar.TypeX509 && string(e.Data) == string(cert.Raw) }
		if slices.ContainsFunc(entries, known) {
			return fmt.Errorf("db holds the certificate of %q already", cert.Subject)
		}
		entries = append(entries, efivar.Entry{Type: efivar.TypeX509, Owner: owner, Data: cert.Raw})
	}
	now := o.Now.Truncate(time.Second)
	if !now.After(e.DB.Time) {
		now = e.DB.Time.Add(time.Second) // firmware takes only what is later
	}
	kek, err := Signer(dir, "KEK", o.Passphrase)
	if err != nil {
		return err
	}
	update, err := efivar.Sign(efivar.DB, entries, now, kek)
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(keys, "db.auth"), update, 0o644)
}

// ReadCertificate reads a certificate, PEM or DER.
func ReadCertificate(path string) (*x509.Certificate, error) {
	b, err := limited.File(path, maxCertificate)
	if err != nil {
		return nil, err
	}
	if cert, err := x509.ParseCertificate(b); err == nil {
		return cert, nil
	}
	cert, err := authenticode.ParseCertificate(b)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return cert, nil
}
