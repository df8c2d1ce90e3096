// Package medium is the format of a medium: the one image that boots from a USB
// stick and from a CD, holds a whole release, and can prove itself. docs/medium.md
// has it to the last field.
//
//	GPT, and an ISO 9660 with a note for people, whose El Torito catalogue starts partition 1
//	1  ashlar-media-esp  the loader, and a boot file whose command line names the hash of 2
//	2  ashlar-payload    EROFS with the release's store, and the dm-verity tree that seals it
//	3  ashlar-papers     open: release document and signatures, see [Papers]
//	4  ashlar-answers    open: the answers of an unattended installation
//
// Most of an image is holes. So a release carries it as a [Map], which says which
// blocks are in use and their digests, and as one blob of those blocks, one after the
// other. The map is named by the release document, whose signature therefore covers
// every byte that is not open. Open regions are zeros as published; whoever writes
// the medium fills them.
//
// This package knows bytes. It runs no programs, opens no devices and trusts nobody:
// package publish/medium makes a medium, media writes and verifies it, machine/sysroot
// boots from it.
package medium
