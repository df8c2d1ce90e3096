package verity

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

const (
	blockSize = 4096
	// maxLevels is enough for any size: a level holds 128 times fewer hashes
	// than the one below, and 4096·128^8 is over 2^64.
	maxLevels = 8
)

// Hasher computes the digest of the bytes written to it. It keeps one block for
// the data and one for each level of the Merkle tree, and allocates nothing
// while it works. The zero Hasher is not usable; see NewHasher.
type Hasher struct {
	size   uint64
	data   [blockSize]byte // the block that is being filled
	fill   int             // bytes in data
	levels [maxLevels]level
}

// level is one row of the Merkle tree, of which only the last block is kept.
type level struct {
	block [blockSize]byte
	fill  int // bytes in block
}

// NewHasher returns a Hasher that was given nothing yet.
func NewHasher() *Hasher { return new(Hasher) }

// Reset makes h as new.
func (h *Hasher) Reset() {
	h.size, h.fill = 0, 0
	for i := range h.levels {
		h.levels[i].fill = 0
	}
}

// Size returns how many bytes were written.
func (h *Hasher) Size() int64 { return int64(h.size) }

// Write adds p. It never fails.
func (h *Hasher) Write(p []byte) (int, error) {
	n := len(p)
	h.size += uint64(n)
	if h.fill > 0 {
		c := copy(h.data[h.fill:], p)
		h.fill += c
		p = p[c:]
		if h.fill < blockSize {
			return n, nil
		}
		h.push(0, sha256.Sum256(h.data[:]))
		h.fill = 0
	}
	for len(p) >= blockSize {
		h.push(0, sha256.Sum256(p[:blockSize]))
		p = p[blockSize:]
	}
	h.fill = copy(h.data[:], p)
	return n, nil
}

// push adds a hash to a level. A full block moves up only when another hash
// follows it, so that the topmost block is still there when Sum asks for it.
func (h *Hasher) push(at int, hash [Size]byte) {
	l := &h.levels[at]
	if l.fill == blockSize {
		h.push(at+1, sha256.Sum256(l.block[:]))
		l.fill = 0
	}
	copy(l.block[l.fill:], hash[:])
	l.fill += Size
}

// Sum returns the digest of what was written and ends the computation: only
// Reset may follow.
func (h *Hasher) Sum() Digest {
	if h.fill > 0 {
		clear(h.data[h.fill:])
		h.push(0, sha256.Sum256(h.data[:]))
		h.fill = 0
	}
	return descriptor(h.size, h.root())
}

// root hashes the unfinished blocks upwards.
func (h *Hasher) root() (root [Size]byte) {
	if h.size == 0 {
		return root
	}
	for at := 0; ; at++ {
		l := &h.levels[at]
		top := at+1 == maxLevels || h.levels[at+1].fill == 0
		if top && l.fill == Size {
			copy(root[:], l.block[:])
			return root
		}
		clear(l.block[l.fill:])
		h.push(at+1, sha256.Sum256(l.block[:]))
	}
}

// descriptor hashes struct fsverity_descriptor (linux/fsverity.h).
func descriptor(size uint64, root [Size]byte) Digest {
	var d [256]byte
	d[0] = 1  // version
	d[1] = 1  // FS_VERITY_HASH_ALG_SHA256
	d[2] = 12 // log2 of the block size
	binary.LittleEndian.PutUint64(d[8:], size)
	copy(d[16:], root[:])
	return sha256.Sum256(d[:])
}

// SumBytes returns the digest of b.
func SumBytes(b []byte) Digest {
	h := NewHasher()
	h.Write(b)
	return h.Sum()
}

// work is what SumReader needs; it is reused, since an image has many files.
type work struct {
	hasher Hasher
	buf    [256 << 10]byte
}

var works = sync.Pool{New: func() any { return new(work) }}

// SumReader reads r to its end and returns the digest and the number of bytes.
func SumReader(r io.Reader) (Digest, int64, error) {
	w := works.Get().(*work)
	defer works.Put(w)
	w.hasher.Reset()
	for {
		// Whole blocks are hashed where they are, so the buffer is filled first.
		n, err := fill(r, w.buf[:])
		w.hasher.Write(w.buf[:n])
		if err == io.EOF {
			return w.hasher.Sum(), w.hasher.Size(), nil
		}
		if err != nil {
			return Digest{}, w.hasher.Size(), fmt.Errorf("reading after %d bytes: %w", w.hasher.Size(), err)
		}
	}
}

// fill reads until buf is full or r ends. Unlike io.ReadFull it does not turn
// the end into io.ErrUnexpectedEOF, by which a decompressor says that its input
// was cut off.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var c int
		c, err = r.Read(buf[n:])
		n += c
	}
	return n, err
}
