package efivar

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/ashlar-os/ashlar/internal/image/authenticode"
	"github.com/ashlar-os/ashlar/internal/limited"
)

// Enrolment is the three updates that give a firmware a publisher's keys.
type Enrolment struct {
	PK, KEK, DB          *Update
	RawPK, RawKEK, RawDB []byte // as they are written to the firmware
}

// Files are the names of an enrolment's files, in the order in which they are
// written to a firmware: with PK it begins to check signatures.
var Files = []string{"db.auth", "KEK.auth", "PK.auth"}

// ReadEnrolment reads PK.auth, KEK.auth and db.auth, and demands what firmware
// would: that each is signed by who may change that variable.
func ReadEnrolment(dir fs.FS) (*Enrolment, error) {
	e := new(Enrolment)
	for _, v := range []struct {
		Variable
		raw    *[]byte
		update **Update
	}{{PK, &e.RawPK, &e.PK}, {KEK, &e.RawKEK, &e.KEK}, {DB, &e.RawDB, &e.DB}} {
		var err error
		if *v.raw, err = readFile(dir, v.Name+".auth"); err != nil {
			return nil, err
		}
		if *v.update, err = ParseUpdate(v.Variable, *v.raw); err != nil {
			return nil, err
		}
	}
	for _, link := range []struct {
		update, by *Update
		what, whom string
	}{{e.PK, e.PK, "PK.auth", "PK"}, {e.KEK, e.PK, "KEK.auth", "PK"}, {e.DB, e.KEK, "db.auth", "KEK"}} {
		if !holds(link.by.Entries, link.update.Signer) {
			return nil, fmt.Errorf("%q is signed by %q, and %s does not hold that certificate: firmware would refuse it", link.what, link.update.Signer.Subject, link.whom)
		}
	}
	return e, nil
}

func readFile(dir fs.FS, name string) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := limited.All(f, MaxVariable)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return b, nil
}

// holds reports whether cert is among the X.509 entries.
func holds(entries []Entry, cert *x509.Certificate) bool {
	for _, e := range entries {
		if e.Type == TypeX509 && bytes.Equal(e.Data, cert.Raw) {
			return true
		}
	}
	return false
}

// Certificates reads the X.509 entries. One that cannot be read is in the
// error, and the others are returned all the same.
func Certificates(entries []Entry) (certs []*x509.Certificate, err error) {
	for _, e := range entries {
		if e.Type != TypeX509 {
			continue
		}
		cert, parseErr := x509.ParseCertificate(e.Data)
		if parseErr != nil {
			err = errors.Join(err, fmt.Errorf("a certificate of owner %s: %w", e.Owner, parseErr))
			continue
		}
		certs = append(certs, cert)
	}
	return certs, err
}

// Starts returns why firmware with these keys and no others would not start a
// program of size bytes: no certificate of db is behind a signature of it.
func (e *Enrolment) Starts(program io.ReaderAt, size int64) error {
	image, err := authenticode.Read(program, size)
	if err != nil {
		return err
	}
	certs, err := Certificates(e.DB.Entries)
	if err != nil {
		return err
	}
	err = errors.New("it is not signed")
	for i := range image.Signatures {
		s := &image.Signatures[i]
		if err = s.Err; err != nil {
			continue
		}
		for _, cert := range certs {
			if s.LeadsTo(cert) {
				return nil
			}
		}
		err = fmt.Errorf("it is signed by %q, which db does not hold", s.Signer.Subject)
	}
	return err
}
