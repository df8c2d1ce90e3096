package secureboot

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/authenticode"
)

// Verdict is what a firmware that enforces Secure Boot thinks of a program.
type Verdict struct {
	Signer  string `json:"signer"`  // subject of the signer's certificate; "" where nobody signed
	Trusted bool   `json:"trusted"` // db allows it, dbx does not forbid it
	Reason  string `json:"reason"`  // why it is not trusted
}

// Judge reads a program of size bytes, all of it.
func (s *State) Judge(r io.ReaderAt, size int64) Verdict {
	image, err := authenticode.Read(r, size)
	if err != nil {
		return Verdict{Reason: err.Error()}
	}
	return s.judge(image)
}

// JudgeFile is Judge for the file at path.
func (s *State) JudgeFile(path string) (Verdict, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return Verdict{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Verdict{}, err
	}
	if !st.Mode().IsRegular() {
		return Verdict{}, fmt.Errorf("%q is not a regular file", path)
	}
	return s.Judge(f, st.Size()), nil
}

// Check returns why the firmware would not start a boot file. Where it does not
// enforce Secure Boot, it starts everything.
func (s *State) Check(r io.ReaderAt, size int64) error {
	if !s.Enforces() {
		return nil
	}
	if s.Err != nil {
		return fmt.Errorf("this machine's firmware enforces Secure Boot, and whom it trusts cannot be read: %w", s.Err)
	}
	if v := s.Judge(r, size); !v.Trusted {
		return fmt.Errorf("this machine's firmware enforces Secure Boot, and would not start the boot file: %s", v.Reason)
	}
	return nil
}

func (s *State) judge(image *authenticode.Image) Verdict {
	v := Verdict{Signer: signerOf(image)}
	if s.dbx.hashes[image.Digest] {
		v.Reason = "it is revoked: dbx holds its hash"
		return v
	}
	for i := range image.Signatures {
		if cert := s.revokedSigner(&image.Signatures[i]); cert != nil {
			v.Reason = fmt.Sprintf("it is signed by %q, and dbx revokes %q", v.Signer, cert.Subject)
			return v
		}
	}
	for i := range image.Signatures {
		sig := &image.Signatures[i]
		if sig.Err == nil && s.allows(sig) {
			return Verdict{Signer: sig.Signer.Subject.String(), Trusted: true}
		}
	}
	switch {
	case s.db.hashes[image.Digest]:
		v.Trusted = true
	case len(image.Signatures) == 0:
		v.Reason = "it is not signed"
	case v.Signer == "":
		v.Reason = image.Signatures[0].Err.Error()
	default:
		v.Reason = fmt.Sprintf("it is signed by %q, which db does not hold", v.Signer)
	}
	return v
}

// signerOf is the signer of the first good signature.
func signerOf(image *authenticode.Image) string {
	for _, sig := range image.Signatures {
		if sig.Err == nil {
			return sig.Signer.Subject.String()
		}
	}
	return ""
}

// allows reports whether a certificate of db, itself not revoked, is the
// signer's or stands above it.
func (s *State) allows(sig *authenticode.Signature) bool {
	for _, cert := range s.db.certs {
		if !s.revokes(cert) && sig.LeadsTo(cert) {
			return true
		}
	}
	return false
}

// revokedSigner returns the certificate of a signature that dbx names, or
// that one which dbx names stands above.
func (s *State) revokedSigner(sig *authenticode.Signature) *x509.Certificate {
	for _, cert := range sig.Chain() {
		if s.revokes(cert) {
			return cert
		}
	}
	for _, cert := range s.dbx.certs {
		if sig.LeadsTo(cert) {
			return cert
		}
	}
	return nil
}

func (s *State) revokes(cert *x509.Certificate) bool {
	return s.dbx.revoked[sha256.Sum256(cert.RawTBSCertificate)] || s.dbx.has(cert)
}
