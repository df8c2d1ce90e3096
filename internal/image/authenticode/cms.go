package authenticode

import (
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
)

// Object identifiers of CMS (RFC 5652) and of Authenticode.
var (
	oidData            = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidContentType     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidRSAEncryption   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidSHA256RSA       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	oidSHA256          = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSpcIndirectData = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}
	oidSpcPEImageData  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 15}
)

var (
	algSHA256 = pkix.AlgorithmIdentifier{Algorithm: oidSHA256, Parameters: asn1.NullRawValue}
	algRSA    = pkix.AlgorithmIdentifier{Algorithm: oidRSAEncryption, Parameters: asn1.NullRawValue}
)

// The structures of a signature, as the specifications name them.
type (
	spcIndirectDataContent struct {
		Data          spcAttributeTypeAndOptionalValue
		MessageDigest digestInfo
	}
	spcAttributeTypeAndOptionalValue struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue `asn1:"optional"`
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
		Content asn1.RawValue `asn1:"optional,tag:0"` // [0] EXPLICIT
	}
	signedData struct {
		Version      int
		Algorithms   []pkix.AlgorithmIdentifier `asn1:"set"`
		Content      contentInfo
		Certificates asn1.RawValue `asn1:"optional,tag:0"` // [0] IMPLICIT SET OF Certificate
		CRLs         asn1.RawValue `asn1:"optional,tag:1"`
		Signers      []signerInfo  `asn1:"set"`
	}
	signerInfo struct {
		Version         int
		Issuer          issuerAndSerial
		DigestAlgorithm pkix.AlgorithmIdentifier
		Attributes      asn1.RawValue `asn1:"optional,tag:0"` // [0] IMPLICIT SET OF Attribute
		KeyAlgorithm    pkix.AlgorithmIdentifier
		Signature       []byte
		Unsigned        asn1.RawValue `asn1:"optional,tag:1"`
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

// contextTag wraps DER in [tag], constructed.
func contextTag(tag int, der []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true, Bytes: der}
}

// indirectData is the content of a program's signature, and the digest of that
// content, which is over its value without the outer tag and length.
func indirectData(imageDigest []byte) (content []byte, digest [32]byte, err error) {
	data, err := asn1.Marshal(spcPEImageData{File: obsoleteFile()})
	if err != nil {
		return nil, digest, err
	}
	content, err = asn1.Marshal(spcIndirectDataContent{
		Data:          spcAttributeTypeAndOptionalValue{Type: oidSpcPEImageData, Value: asn1.RawValue{FullBytes: data}},
		MessageDigest: digestInfo{Algorithm: algSHA256, Digest: imageDigest},
	})
	if err != nil {
		return nil, digest, err
	}
	var outer asn1.RawValue
	if _, err := asn1.Unmarshal(content, &outer); err != nil {
		return nil, digest, err
	}
	return content, sha256.Sum256(outer.Bytes), nil
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

// asSet is how attributes are signed: as a SET OF, although they are stored
// as [0] IMPLICIT (RFC 5652, 5.4).
func asSet(attributes []byte) ([]byte, error) {
	return asn1.Marshal(asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: attributes})
}
