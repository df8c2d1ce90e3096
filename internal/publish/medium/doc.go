// Package medium makes the medium of a release: one image that boots from a USB stick
// and from a CD, holds the whole release, and is covered by the release's signature.
// Package image/medium has the format, docs/medium.md to the last field.
//
// The work, in order:
//
//	payload   mkfs.erofs makes the compressed file system with the release's store
//	verity    behind it goes the dm-verity tree; its root hash goes on a command line
//	ESP       mkfs.vfat and mtools make it, with the boot file of that command line
//	image     xorriso puts both behind an ISO 9660 with an El Torito catalogue
//	blocks    what xorriso writes is read as it comes: its partition table is replaced,
//	          zeros are left out, and the rest is hashed and stored, once
//
// So the image itself is never on the publisher's disk: what is published is the map of
// its blocks and the blocks. Nothing needs root, a loop device or a mount, and memory does
// not grow with the image.
//
// xorriso's partition table is replaced because a table of Ashlar's has names and ids
// that follow from the image, and none of the partitions for gaps that xorriso adds; the ISO
// itself needs no partition.
//
// The same release and the same versions of the tools give the same bytes.
package medium
