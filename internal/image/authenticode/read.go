package authenticode

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Limits of what a program may bring along.
const (
	maxSignatures   = 16
	maxCertificates = 32 // of one signature
	maxChain        = 8  // certificates from the signer to whom firmware trusts
)

// Image is what firmware looks at in a program to decide whether it starts.
type Image struct {
	Digest     [sha256.Size]byte // Authenticode's, which a hash in db or dbx names
	Signatures []Signature       // in their order in the file
}

// Signature is one signature of a program.
type Signature struct {
	Signer       *x509.Certificate   // nil: it could not be read so far
	Certificates []*x509.Certificate // all that it carries, the signer's among them
	Err          error               // why it says nothing about this program; nil: it is good
}

// Read reads a program of size bytes, all of it, and checks its signatures.
// The error is for what is no program; a bad signature has its own.
func Read(r io.ReaderAt, size int64) (*Image, error) {
	p, err := parse(r, size)
	if err != nil {
		return nil, err
	}
	image := new(Image)
	if image.Digest, err = p.digest(); err != nil {
		return nil, err
	}
	table := make([]byte, p.certSize)
	if _, err := r.ReadAt(table, p.certTable); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading its signatures: %w", err)
	}
	for len(table) > 0 {
		if len(image.Signatures) == maxSignatures {
			return nil, fmt.Errorf("it has more than %d signatures", maxSignatures)
		}
		if len(table) < certHeader {
			return nil, fmt.Errorf("its signatures end with %d bytes that are none", len(table))
		}
		length := int64(binary.LittleEndian.Uint32(table))
		if length < certHeader || length > int64(len(table)) {
			return nil, fmt.Errorf("one of its signatures has %d bytes of %d", length, len(table))
		}
		image.Signatures = append(image.Signatures, readSignature(table[:length], image.Digest[:]))
		table = table[min((length+7)&^7, int64(len(table))):]
	}
	return image, nil
}

// readSignature reads one WIN_CERTIFICATE.
func readSignature(b, digest []byte) (s Signature) {
	revision, kind := binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint16(b[6:])
	if revision != certRevision2 || kind != certTypePKCS {
		s.Err = fmt.Errorf("a signature of kind %d, revision %#x, is none that firmware of today knows", kind, revision)
		return s
	}
	s.Err = s.read(b[certHeader:], digest)
	return s
}

// read reads a CMS message and checks that it signs digest.
func (s *Signature) read(der, digest []byte) error {
	var outer contentInfo
	rest, err := asn1.Unmarshal(der, &outer)
	if err != nil {
		return fmt.Errorf("reading a signature: %w", err)
	}
	if len(bytes.Trim(rest, "\x00")) > 0 || !outer.Type.Equal(oidSignedData) {
		return errors.New("a signature is no CMS SignedData")
	}
	signed, err := s.open(outer.Content.Bytes)
	if err != nil {
		return err
	}
	if !signed.Content.Type.Equal(oidSpcIndirectData) {
		return fmt.Errorf("a signature is over content of type %s, and not over a program", signed.Content.Type)
	}
	var value asn1.RawValue
	var content spcIndirectDataContent
	if _, err := asn1.Unmarshal(signed.Content.Content.Bytes, &value); err != nil {
		return fmt.Errorf("reading a signature's content: %w", err)
	}
	if _, err := asn1.Unmarshal(value.FullBytes, &content); err != nil {
		return fmt.Errorf("reading a signature's content: %w", err)
	}
	if alg := content.MessageDigest.Algorithm.Algorithm; !alg.Equal(oidSHA256) {
		return fmt.Errorf("a signature is over a digest of type %s, want SHA-256", alg)
	}
	if !bytes.Equal(content.MessageDigest.Digest, digest) {
		return errors.New("it was changed after it was signed")
	}
	return s.check(&signed.Signers[0], oidSpcIndirectData, value.Bytes)
}

// open decodes a SignedData with one signer, and finds the signer's certificate.
func (s *Signature) open(der []byte) (*signedData, error) {
	var signed signedData
	if rest, err := asn1.Unmarshal(der, &signed); err != nil {
		return nil, fmt.Errorf("reading a signature: %w", err)
	} else if len(rest) > 0 {
		return nil, errors.New("a signature has bytes behind its end")
	}
	if n := len(signed.Signers); n != 1 {
		return nil, fmt.Errorf("a signature has %d signers, want 1", n)
	}
	for raw := signed.Certificates.Bytes; len(raw) > 0; {
		var one asn1.RawValue
		var err error
		if raw, err = asn1.Unmarshal(raw, &one); err != nil {
			return nil, fmt.Errorf("reading a signature's certificates: %w", err)
		}
		if len(s.Certificates) == maxCertificates {
			return nil, fmt.Errorf("a signature has more than %d certificates", maxCertificates)
		}
		cert, err := x509.ParseCertificate(one.FullBytes)
		if err != nil {
			return nil, fmt.Errorf("reading a signature's certificates: %w", err)
		}
		s.Certificates = append(s.Certificates, cert)
		issuer := signed.Signers[0].Issuer
		if s.Signer == nil && bytes.Equal(cert.RawIssuer, issuer.Issuer.FullBytes) && cert.SerialNumber.Cmp(issuer.Serial) == 0 {
			s.Signer = cert
		}
	}
	if s.Signer == nil {
		return nil, errors.New("a signature does not carry its signer's certificate")
	}
	return &signed, nil
}

// check verifies the signer's signature over content of that type.
func (s *Signature) check(signer *signerInfo, kind asn1.ObjectIdentifier, content []byte) error {
	if !signer.DigestAlgorithm.Algorithm.Equal(oidSHA256) {
		return fmt.Errorf("a signature uses digests of type %s, want SHA-256", signer.DigestAlgorithm.Algorithm)
	}
	if alg := signer.KeyAlgorithm.Algorithm; !alg.Equal(oidRSAEncryption) && !alg.Equal(oidSHA256RSA) {
		return fmt.Errorf("a signature is of type %s, want RSA", alg)
	}
	signed := content
	if len(signer.Attributes.Bytes) > 0 {
		digest := sha256.Sum256(content)
		if err := checkAttributes(signer.Attributes.Bytes, kind, digest[:]); err != nil {
			return err
		}
		var err error
		if signed, err = asSet(signer.Attributes.Bytes); err != nil {
			return err
		}
	}
	key, ok := s.Signer.PublicKey.(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("the certificate %q has a key of type %T, want RSA", s.Signer.Subject, s.Signer.PublicKey)
	}
	digest := sha256.Sum256(signed)
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signer.Signature); err != nil {
		return fmt.Errorf("the signature is not by the key of %q", s.Signer.Subject)
	}
	return nil
}

// checkAttributes demands the two attributes that tie a signature to its content.
func checkAttributes(raw []byte, kind asn1.ObjectIdentifier, digest []byte) error {
	var typed, digested bool
	for len(raw) > 0 {
		var a attribute
		var err error
		if raw, err = asn1.Unmarshal(raw, &a); err != nil {
			return fmt.Errorf("reading a signature's attributes: %w", err)
		}
		switch {
		case a.Type.Equal(oidContentType):
			var oid asn1.ObjectIdentifier
			if _, err := asn1.Unmarshal(a.Values.Bytes, &oid); err != nil || !oid.Equal(kind) {
				return errors.New("a signature is for content of another type")
			}
			typed = true
		case a.Type.Equal(oidMessageDigest):
			var d []byte
			if _, err := asn1.Unmarshal(a.Values.Bytes, &d); err != nil || !bytes.Equal(d, digest) {
				return errors.New("a signature is for other content than it carries")
			}
			digested = true
		}
	}
	if !typed || !digested {
		return errors.New("a signature does not say what it signs")
	}
	return nil
}

// VerifyDetached checks what SignDetached makes, with or without a
// ContentInfo around it, and returns whose signature it is.
func VerifyDetached(der, content []byte) (*x509.Certificate, error) {
	var outer contentInfo
	if _, err := asn1.Unmarshal(der, &outer); err == nil && outer.Type.Equal(oidSignedData) {
		der = outer.Content.Bytes
	}
	var s Signature
	signed, err := s.open(der)
	if err != nil {
		return nil, err
	}
	if err := s.check(&signed.Signers[0], oidData, content); err != nil {
		return nil, err
	}
	return s.Signer, nil
}

// LeadsTo reports whether cert is the signer's, or signed it, directly or
// through certificates that the signature carries. As in firmware, a
// certificate may be expired and need not say that it may sign.
func (s *Signature) LeadsTo(cert *x509.Certificate) bool {
	for _, c := range s.Chain() {
		if c.Equal(cert) || issued(cert, c) {
			return true
		}
	}
	return false
}

// Chain is the signer's certificate and, of those that the signature carries,
// the ones that issued it.
func (s *Signature) Chain() []*x509.Certificate {
	if s.Signer == nil {
		return nil
	}
	chain := []*x509.Certificate{s.Signer}
	for last := s.Signer; len(chain) < maxChain; last = chain[len(chain)-1] {
		i := 0
		for i < len(s.Certificates) && (s.Certificates[i].Equal(last) || !issued(s.Certificates[i], last)) {
			i++
		}
		if i == len(s.Certificates) {
			break
		}
		chain = append(chain, s.Certificates[i])
	}
	return chain
}

func issued(issuer, c *x509.Certificate) bool {
	return bytes.Equal(issuer.RawSubject, c.RawIssuer) &&
		issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}
