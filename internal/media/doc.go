// Package media writes a signed medium to a drive, proves what is on one, and
// makes an ordinary empty drive of it again. docs/media.md says what a person
// does with it; docs/medium.md what is on a medium.
//
// Which drives there are, and which must not be touched, is package drive's to
// know.
//
// # What is written
//
// A [Source] is believed before a byte is written: its release document is
// signed, the document names the map of the medium (package medium), and the
// map the sha256 of every extent in use. Those extents are what is written; the
// rest of the drive is discarded. Two regions are open, filled by who writes:
// the papers, which prove themselves, and the answers of an unattended install.
//
// # A write that may be cut anywhere
//
// The states of [Write]. Whatever one of them relies on was flushed before:
//
//	marked   block 0 says "a write of map M, B bytes are there": it is no boot
//	         sector and no partition table, so nothing on the drive boots
//	wiped    stale tables at both ends are zero, the rest is discarded
//	body     everything from byte 65536 on is there, and was read back
//	head     bytes 4096 to 65536: the partition table's entries, and the volume
//	         descriptors by which firmware starts a CD
//	whole    block 0: from here on it boots; and the head was read back too
//
// So a medium that boots is whole. A write that was cut goes on by what the
// marker says, after reading what should be there already.
//
// # Reading back
//
// Everything in use is read back, past the caches, and compared by digest, always.
// A drive that does not hold what was written to it is a [BadDrive], which tells
// drives that claim more than they have from those that break.
package media
