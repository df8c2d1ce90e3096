package store

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// BenchmarkBatch stores 4 KiB objects, 1000 to a batch.
func BenchmarkBatch(b *testing.B) {
	s := newStore(b)
	b.SetBytes(1000 * 4096)
	var n uint64
	for b.Loop() {
		batch, err := s.NewBatch()
		if err != nil {
			b.Fatal(err)
		}
		for range 1000 {
			n++
			c := make([]byte, 4096)
			binary.LittleEndian.PutUint64(c, n)
			if err := batch.PutObject(verity.SumBytes(c), int64(len(c)), bytes.NewReader(c)); err != nil {
				b.Fatal(err)
			}
		}
		if err := batch.Commit(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
