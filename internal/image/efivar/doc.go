// Package efivar reads and writes the variables of Secure Boot as they are in
// firmware, and the signed updates that change them.
//
//	PK   platform key: whose signature changes PK and KEK
//	KEK  key exchange keys: whose signature changes db and dbx
//	db   what may start: certificates, and hashes of programs
//	dbx  what may not, whatever db says
//
// Each holds EFI_SIGNATURE_LISTs, one after the other:
//
//	type (GUID)  size of the list  size of its header  size of an entry  header
//	entries      owner (GUID), data
//
// The data of an X.509 entry is a certificate; of a SHA-256 entry, the
// Authenticode digest of a program; of an X.509-SHA-256 entry, the digest of a
// certificate's signed part, and since when it is revoked.
//
// An update is an EFI_VARIABLE_AUTHENTICATION_2, what tools call an .auth file:
//
//	time        EFI_TIME; it must be later than that of the last update
//	signature   WIN_CERTIFICATE_UEFI_GUID with a CMS SignedData over the
//	            variable's name, its vendor, its attributes, the time, and the lists
//	lists       the new content
//
// It is written to the variable whole, and the firmware takes the lists.
//
// Formats: UEFI specification 2.10, 8.2 (variables) and 32.4 (signature lists).
package efivar
