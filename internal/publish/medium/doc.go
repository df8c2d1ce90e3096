// Package medium makes the medium of a release: one image that boots from a USB stick
// and from a CD, holds the whole release, and is covered by the release's signature.
// Package image/medium has the format, docs/medium.md to the last field.
//
// The work, in order:
//
//	payload   mkfs.erofs makes the compressed file system with the release's store
//	verity    behind it goes the dm-verity tree; its root hash goes on a command line
//	ESP       mkfs.vfat and mtools make it, with the boot file of that command line
//	disc      xorriso writes an ISO 9660 with an El Torito catalogue, and behind it the ESP
//	image     the payload follows, and a partition table of all replaces xorriso's
//	blocks    all that is taken as it comes: zeros are left out, the rest is hashed and stored
//
// So the image itself is never on the publisher's disk: what is published is the map of
// its blocks and the blocks. Nothing needs root, a loop device or a mount, and memory does
// not grow with the image.
//
// xorriso could append the payload too, but would only copy it through a pipe; and its
// partition table has names of its own, partitions for gaps, and ids that follow from nothing.
//
// The same release and the same versions of the tools give the same bytes.
package medium
