package liar

import "sync"

// block is how finely the drive keeps what is written, in bytes. It divides every real size.
const block = 4096

// Drive is what a stick of this kind is made of.
type Drive struct {
	Claims int64 // bytes, as it says
	Real   int64 // bytes, a multiple of 4096
	Wraps  bool  // what is beyond the real size lands at the beginning; else it is gone

	mu     sync.Mutex
	blocks map[int64][]byte
}

// each calls do for every part of a range that lies in one block, with that block, or with
// nil where there is none: nothing was written there, or nothing can be.
func (d *Drive) each(offset int64, length int, write bool, do func(part, kept []byte), b []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.blocks == nil {
		d.blocks = make(map[int64][]byte)
	}
	for length > 0 {
		within := int(offset % block)
		n := min(block-within, length)
		var kept []byte
		if offset < d.Real || d.Wraps {
			number := offset % d.Real / block
			if d.blocks[number] == nil && write {
				d.blocks[number] = make([]byte, block)
			}
			kept = d.blocks[number]
		}
		if kept != nil {
			kept = kept[within : within+n]
		}
		do(b[:n], kept)
		b, offset, length = b[n:], offset+int64(n), length-n
	}
}

func (d *Drive) read(b []byte, offset int64) {
	d.each(offset, len(b), false, func(part, kept []byte) {
		clear(part)
		copy(part, kept)
	}, b)
}

func (d *Drive) write(b []byte, offset int64) {
	d.each(offset, len(b), true, func(part, kept []byte) { copy(kept, part) }, b)
}
