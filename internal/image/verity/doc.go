// Package verity computes and handles fs-verity file digests, the names that
// Ashlar gives to images and objects.
//
// A digest is made of a Merkle tree over the file: its 4096-byte blocks, the
// last one padded with zeros, are hashed with sha256; the hashes, packed 128 to
// a block, are hashed in turn, until one hash is left. That root hash and the
// size of the file go into a descriptor of 256 bytes, whose sha256 is the digest:
//
//	offset size
//	     0    1  version, 1
//	     1    1  hash algorithm, 1 (sha256)
//	     2    1  log2 of the block size, 12
//	     3    1  length of the salt, 0
//	     4    4  reserved
//	     8    8  size of the file, little-endian
//	    16   64  root hash, all zero for an empty file
//	    80   32  salt, none
//	   112  144  reserved
//
// The kernel computes the same digest when a file is sealed (Enable), reports it
// (Measure), and from then on checks every block that is read; the file cannot
// be written any more. Specification:
// https://docs.kernel.org/filesystems/fsverity.html
package verity
