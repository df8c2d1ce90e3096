// Package secureboot knows what this machine's firmware starts.
//
// Firmware that enforces Secure Boot starts a program that is signed by whom
// its variable db names, directly or as the issuer, or whose hash db holds, and
// whose hash and signers are not in dbx. Read reads both; Judge says of a boot
// file or a loader what the firmware would, before the machine depends on it.
//
// It judges as EDK II does (SecurityPkg, DxeImageVerificationLib): one
// revoked signature condemns a program, times of certificates do not count, and
// neither does what they are for. Where the two could differ, for a digest
// other than SHA-256 or a key other than RSA, the answer here is no.
//
// Enrol gives a firmware in setup mode a publisher's keys, or puts them where
// systemd-boot finds them at the next start.
package secureboot
