// Package secureboot makes and keeps a publisher's Secure Boot keys: who may
// say which boot files a machine's firmware starts.
//
// They are in the directory "secureboot" of the publisher's key directory:
//
//	PK.key, KEK.key, db.key     RSA, PKCS #8 in PEM, closed by a passphrase (package keyfile)
//	PK.crt, KEK.crt, db.crt     certificates, PEM, each signed by its own key
//	PK.auth, KEK.auth, db.auth  what firmware takes (package efivar)
//	owner.guid                  under which they stand in firmware
//
// Only db.key is needed to build; PK.key and KEK.key can be kept elsewhere
// until keys change. The .crt and .auth files are no secrets.
package secureboot
