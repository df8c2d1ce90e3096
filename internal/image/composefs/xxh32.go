package composefs

import (
	"encoding/binary"
	"math/bits"
)

// xxh32 is the 32-bit xxHash, by which EROFS' xattr name filter picks a bit.
// Specification: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
func xxh32(s string, seed uint32) uint32 {
	const p1, p2, p3, p4, p5 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1
	b := []byte(s)
	var h uint32
	if len(b) >= 16 {
		lanes := [4]uint32{seed, seed, seed, seed}
		lanes[0] += 0x24234428 // p1+p2, which overflows a constant expression
		lanes[1] += p2
		lanes[3] -= p1
		for ; len(b) >= 16; b = b[16:] {
			for i := range lanes {
				lanes[i] += binary.LittleEndian.Uint32(b[4*i:]) * p2
				lanes[i] = bits.RotateLeft32(lanes[i], 13) * p1
			}
		}
		h = bits.RotateLeft32(lanes[0], 1) + bits.RotateLeft32(lanes[1], 7) +
			bits.RotateLeft32(lanes[2], 12) + bits.RotateLeft32(lanes[3], 18)
	} else {
		h = seed + p5
	}
	h += uint32(len(s))
	for ; len(b) >= 4; b = b[4:] {
		h += binary.LittleEndian.Uint32(b) * p3
		h = bits.RotateLeft32(h, 17) * p4
	}
	for _, c := range b {
		h += uint32(c) * p5
		h = bits.RotateLeft32(h, 11) * p1
	}
	h ^= h >> 15
	h *= p2
	h ^= h >> 13
	h *= p3
	h ^= h >> 16
	return h
}
