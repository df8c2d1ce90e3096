package authenticode

import "encoding/binary"

// Checksum is the PE checksum of the bytes written to it: 16-bit words added
// with the carry brought around, and the length. Words may come in any order;
// the field itself counts as zero.
type Checksum struct {
	sum uint64
	odd bool
	low byte
}

// Write adds the words of p, which may end in the middle of one. It never fails.
func (c *Checksum) Write(p []byte) (int, error) {
	n := len(p)
	if c.odd && n > 0 {
		c.sum += uint64(c.low) | uint64(p[0])<<8
		c.odd, p = false, p[1:]
	}
	for ; len(p) >= 2; p = p[2:] {
		c.sum += uint64(binary.LittleEndian.Uint16(p))
	}
	if len(p) == 1 {
		c.odd, c.low = true, p[0]
	}
	return n, nil
}

// Value is the checksum of a file of that many bytes.
func (c *Checksum) Value(size int64) uint32 {
	sum := c.sum
	if c.odd {
		sum += uint64(c.low)
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint32(sum) + uint32(size)
}
