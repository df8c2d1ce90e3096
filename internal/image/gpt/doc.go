// Package gpt reads and writes the GUID partition table of a disk (UEFI
// specification 2.10 §5.3).
//
//	sector 0   protective MBR (§5.2.3): tools that know no GPT see the disk as taken
//	sector 1   header, with a checksum of its own and one of the entries
//	sector 2   128 entries of 128 bytes: type, id, first and last sector, name
//	…          partitions
//	end        the entries and the header once more
//
// Write makes tables of that shape and no other; Read takes what the
// specification allows, within limits, from the primary table. The kernel does not use
// the backup without being told to, so a disk without a primary table has no
// partitions to mount.
//
// Everything in a [Table] is bytes, not sectors. A table is written for one size
// of sector and is found with no other.
package gpt
