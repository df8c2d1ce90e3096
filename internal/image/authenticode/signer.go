package authenticode

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"fmt"
)

// Signer signs for Secure Boot: EFI programs with the key of a db certificate,
// the firmware's variables with that of PK or KEK.
//
// Firmware understands RSA with SHA-256 (UEFI specification, 32.2).
type Signer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// NewSigner pairs a certificate with its key, both PEM. The key is RSA of at
// least 2048 bits, PKCS #8 or PKCS #1, not encrypted.
func NewSigner(certPEM, keyPEM []byte) (*Signer, error) {
	cert, err := ParseCertificate(certPEM)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the Secure Boot key: %w", err)
	}
	if bits := key.N.BitLen(); bits < 2048 {
		return nil, fmt.Errorf("the Secure Boot key has %d bits, firmware wants 2048 or more", bits)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("the Secure Boot key is not that of the certificate %q", cert.Subject)
	}
	return &Signer{cert: cert, key: key}, nil
}

// ParseCertificate reads a PEM file that begins with a certificate.
func ParseCertificate(certPEM []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(certPEM)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("the Secure Boot certificate is not PEM with a CERTIFICATE in it")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading the Secure Boot certificate: %w", err)
	}
	return cert, nil
}

func parseKey(keyPEM []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, fmt.Errorf("it is not PEM")
	}
	switch block.Type {
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		if r, ok := key.(*rsa.PrivateKey); ok {
			return r, nil
		}
		return nil, fmt.Errorf("it is %T, firmware wants RSA", key)
	}
	return nil, fmt.Errorf("it holds %q, want PRIVATE KEY", block.Type)
}

// Certificate is the signer's own.
func (s *Signer) Certificate() *x509.Certificate { return s.cert }

// Sign makes the certificate table of a program from its Digest.
func (s *Signer) Sign(imageDigest []byte) ([]byte, error) {
	content, digest, err := indirectData(imageDigest)
	if err != nil {
		return nil, fmt.Errorf("encoding the signature's content: %w", err)
	}
	attributes, err := signedAttributes(digest[:])
	if err != nil {
		return nil, fmt.Errorf("encoding the signature's attributes: %w", err)
	}
	signed, err := asSet(attributes)
	if err != nil {
		return nil, fmt.Errorf("encoding the signature's attributes: %w", err)
	}
	inner, err := s.signedData(contentInfo{oidSpcIndirectData, contextTag(0, content)}, contextTag(0, attributes), signed)
	if err != nil {
		return nil, err
	}
	cms, err := asn1.Marshal(contentInfo{oidSignedData, contextTag(0, inner)})
	if err != nil {
		return nil, fmt.Errorf("encoding the signature: %w", err)
	}
	return certificateTable(cms), nil
}

// SignDetached makes the signature of an authenticated variable (UEFI
// specification, 8.2.2): a SignedData over content that is elsewhere, with no
// attributes and without the ContentInfo that CMS puts around it.
func (s *Signer) SignDetached(content []byte) ([]byte, error) {
	return s.signedData(contentInfo{Type: oidData}, asn1.RawValue{}, content)
}

// signedData signs what is signed: the attributes as a set or, without any,
// the content.
func (s *Signer) signedData(content contentInfo, attributes asn1.RawValue, signed []byte) ([]byte, error) {
	digest := sha256.Sum256(signed)
	signature, err := s.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("signing with the key of %q: %w", s.cert.Subject, err)
	}
	der, err := asn1.Marshal(signedData{
		Version:      1,
		Algorithms:   []pkix.AlgorithmIdentifier{algSHA256},
		Content:      content,
		Certificates: contextTag(0, s.cert.Raw),
		Signers: []signerInfo{{
			Version:         1,
			Issuer:          issuerAndSerial{asn1.RawValue{FullBytes: s.cert.RawIssuer}, s.cert.SerialNumber},
			DigestAlgorithm: algSHA256,
			Attributes:      attributes,
			KeyAlgorithm:    algRSA,
			Signature:       signature,
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the signature: %w", err)
	}
	return der, nil
}

// SignFile returns a signed copy of a program that is small enough for
// memory and has no signature yet: the loader.
func (s *Signer) SignFile(program []byte) ([]byte, error) {
	b := append(bytes.Clone(program), make([]byte, -len(program)&7)...)
	p, err := parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, fmt.Errorf("signing a program: %w", err)
	}
	switch {
	case p.certEntry == 0:
		return nil, fmt.Errorf("signing a program: its header has no room for a signature")
	case p.certSize != 0:
		return nil, fmt.Errorf("signing a program: it is signed already")
	}
	digest, err := p.digest()
	if err != nil {
		return nil, fmt.Errorf("signing a program: %w", err)
	}
	table, err := s.Sign(digest[:])
	if err != nil {
		return nil, fmt.Errorf("signing a program: %w", err)
	}
	binary.LittleEndian.PutUint32(b[p.certEntry:], uint32(len(b)))
	binary.LittleEndian.PutUint32(b[p.certEntry+4:], uint32(len(table)))
	b = append(b, table...)
	var sum Checksum
	clear(b[p.checksum : p.checksum+4])
	sum.Write(b)
	binary.LittleEndian.PutUint32(b[p.checksum:], sum.Value(int64(len(b))))
	return b, nil
}

// A WIN_CERTIFICATE, which is what a certificate table is made of.
const (
	certHeader    = 8
	certRevision2 = 0x0200
	certTypePKCS  = 0x0002
)

// certificateTable wraps one signature as PE keeps it.
func certificateTable(cms []byte) []byte {
	size := (certHeader + len(cms) + 7) &^ 7
	b := make([]byte, size)
	binary.LittleEndian.PutUint32(b[0:], uint32(size))
	binary.LittleEndian.PutUint16(b[4:], certRevision2)
	binary.LittleEndian.PutUint16(b[6:], certTypePKCS)
	copy(b[certHeader:], cms)
	return b
}
