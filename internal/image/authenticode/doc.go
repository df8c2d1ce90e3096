// Package authenticode reads and writes the signatures that firmware demands of
// EFI programs under Secure Boot: of the loader and of boot files.
//
// A signed PE program ends with a certificate table, whose place stands in the
// header's directory:
//
//	WIN_CERTIFICATE  length, revision 0x0200, type 2, then a CMS SignedData (DER),
//	                 zeroes up to a multiple of 8; as many of them as there are signatures
//	  content        SpcIndirectDataContent: the digest of the program
//	  certificates   the signer's, and those between it and its root
//	  signer         SHA-256, RSA; attributes contentType and messageDigest
//
// The digest is over the header without the checksum and without the entry of
// the certificate table, the sections in the order of the file, and what is
// behind them but that table.
//
// A signature made here carries no time, and PKCS #1 v1.5 gives the same bytes
// every time: what is signed is as reproducible as what is not.
//
// Who is trusted is not known here: package efivar reads what the firmware
// trusts, and internal/machine/secureboot puts the two together.
//
// Formats: Microsoft's "Windows Authenticode Portable Executable Signature
// Format" and "PE Format"; RFC 5652 (CMS); UEFI specification 2.10, 32.
package authenticode
