// Package ext4 reads an ext4 file system from anything that can be read, without
// a mount, for tests that ask what is on a disk.
//
// It reads what Ashlar's disks have: extents, hashed and plain directories, 64-bit
// group descriptors, fs-verity. It replays no journal: give it a file system that
// e2fsck has looked at. What it does not know it refuses by name, and every
// length from the disk is checked against the disk before it is believed.
//
// The layout is that of https://docs.kernel.org/filesystems/ext4/; fs-verity's
// place in a file is described in https://docs.kernel.org/filesystems/fsverity.html.
//
//	fs, err := ext4.Open(partition, size)
//	file, err := fs.Lookup("/ashlar/images/4f5a…")
//	names, err := fs.List("/ashlar/deployments")
//	content, err := file.ReadAll(1 << 20)
package ext4
