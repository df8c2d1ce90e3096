package uki

import (
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
	"math/big"
)

// Signer signs boot files for Secure Boot.
//
// Firmware understands RSA with SHA-256 (UEFI specification, 32.2), and signing
// with PKCS #1 v1.5 gives the same bytes every time. The signature has no
// signing time, which firmware ignores, so a signed boot file is as
// reproducible as an unsigned one.
type Signer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// NewSigner pairs a certificate with its key, both PEM. The key is RSA of at
// least 2048 bits, PKCS #8 or PKCS #1, not encrypted.
func NewSigner(certPEM, keyPEM []byte) (*Signer, error) {
	block, _ := pem.Decode(certPEM)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("the Secure Boot certificate is not PEM with a CERTIFICATE in it")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading the Secure Boot certificate: %w", err)
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

// Object identifiers of CMS (RFC 5652) and of Authenticode.
var (
	oidSignedData      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidContentType     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidRSAEncryption   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidSHA256          = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSpcIndirectData = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}
	oidSpcPEImageData  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 15}
)

var (
	algSHA256 = pkix.AlgorithmIdentifier{Algorithm: oidSHA256, Parameters: asn1.NullRawValue}
	algRSA    = pkix.AlgorithmIdentifier{Algorithm: oidRSAEncryption, Parameters: asn1.NullRawValue}
)

// The structures of an Authenticode signature, as the specification names them.
type (
	spcIndirectDataContent struct {
		Data          spcAttributeTypeAndOptionalValue
		MessageDigest digestInfo
	}
	spcAttributeTypeAndOptionalValue struct {
		Type  asn1.ObjectIdentifier
		Value spcPEImageData
	}
	spcPEImageData struct {
		Flags asn1.BitString
		File  spcLink `asn1:"explicit,tag:0"`
	}
	spcLink struct {
		File asn1.RawValue // [2] { [0] BMPString }
	}
	digestInfo struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
	contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue // [0] EXPLICIT
	}
	signedData struct {
		Version      int
		Algorithms   []pkix.AlgorithmIdentifier `asn1:"set"`
		Content      contentInfo
		Certificates asn1.RawValue // [0] IMPLICIT SET OF Certificate
		Signers      []signerInfo  `asn1:"set"`
	}
	signerInfo struct {
		Version         int
		Issuer          issuerAndSerial
		DigestAlgorithm pkix.AlgorithmIdentifier
		Attributes      asn1.RawValue // [0] IMPLICIT SET OF Attribute
		KeyAlgorithm    pkix.AlgorithmIdentifier
		Signature       []byte
	}
	issuerAndSerial struct {
		Issuer asn1.RawValue
		Serial *big.Int
	}
	attribute struct {
		Type   asn1.ObjectIdentifier
		Values asn1.RawValue // SET OF one value
	}
)

// sign makes the CMS SignedData over a boot file's Authenticode digest.
func (s *Signer) sign(imageDigest []byte) ([]byte, error) {
	content, err := asn1.Marshal(spcIndirectDataContent{
		Data: spcAttributeTypeAndOptionalValue{
			Type:  oidSpcPEImageData,
			Value: spcPEImageData{File: obsoleteFile()},
		},
		MessageDigest: digestInfo{Algorithm: algSHA256, Digest: imageDigest},
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the signature's content: %w", err)
	}
	// What is digested is the content without its outer tag and length.
	var outer asn1.RawValue
	if _, err := asn1.Unmarshal(content, &outer); err != nil {
		return nil, fmt.Errorf("encoding the signature's content: %w", err)
	}
	digest := sha256.Sum256(outer.Bytes)
	attributes, err := signedAttributes(digest[:])
	if err != nil {
		return nil, fmt.Errorf("encoding the signature's attributes: %w", err)
	}
	// Signed as a SET OF, stored as [0] IMPLICIT (RFC 5652, 5.4).
	asSet, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: attributes})
	if err != nil {
		return nil, fmt.Errorf("encoding the signature's attributes: %w", err)
	}
	digest = sha256.Sum256(asSet)
	signature, err := s.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("signing with the key of %q: %w", s.cert.Subject, err)
	}
	inner, err := asn1.Marshal(signedData{
		Version:      1,
		Algorithms:   []pkix.AlgorithmIdentifier{algSHA256},
		Content:      contentInfo{oidSpcIndirectData, contextTag(0, content)},
		Certificates: contextTag(0, s.cert.Raw),
		Signers: []signerInfo{{
			Version:         1,
			Issuer:          issuerAndSerial{asn1.RawValue{FullBytes: s.cert.RawIssuer}, s.cert.SerialNumber},
			DigestAlgorithm: algSHA256,
			Attributes:      contextTag(0, attributes),
			KeyAlgorithm:    algRSA,
			Signature:       signature,
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the signature: %w", err)
	}
	cms, err := asn1.Marshal(contentInfo{oidSignedData, contextTag(0, inner)})
	if err != nil {
		return nil, fmt.Errorf("encoding the signature: %w", err)
	}
	return cms, nil
}

// signedAttributes are the two that Authenticode wants, in DER's order for a set.
func signedAttributes(digest []byte) ([]byte, error) {
	var all []byte
	for _, a := range []struct {
		oid   asn1.ObjectIdentifier
		value any
	}{{oidContentType, oidSpcIndirectData}, {oidMessageDigest, digest}} {
		value, err := asn1.Marshal(a.value)
		if err != nil {
			return nil, err
		}
		b, err := asn1.Marshal(attribute{a.oid, asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: value}})
		if err != nil {
			return nil, err
		}
		all = append(all, b...)
	}
	return all, nil
}

// contextTag wraps DER in [tag], constructed.
func contextTag(tag int, der []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true, Bytes: der}
}

// obsoleteFile is the field that used to name the signed file; the
// specification fixes its value to "<<<Obsolete>>>", in UTF-16.
func obsoleteFile() spcLink {
	var utf16 []byte
	for _, c := range "<<<Obsolete>>>" {
		utf16 = append(utf16, 0, byte(c))
	}
	name, _ := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, Bytes: utf16})
	return spcLink{contextTag(2, name)}
}

// certificateTable wraps a signature as PE keeps it: a WIN_CERTIFICATE header,
// the signature, zeroes up to a multiple of 8.
func certificateTable(cms []byte) []byte {
	const header, revision2, typePKCS = 8, 0x0200, 0x0002
	size := int(alignUp(uint64(header+len(cms)), 8))
	b := make([]byte, size)
	binary.LittleEndian.PutUint32(b[0:], uint32(size))
	binary.LittleEndian.PutUint16(b[4:], revision2)
	binary.LittleEndian.PutUint16(b[6:], typePKCS)
	copy(b[header:], cms)
	return b
}
