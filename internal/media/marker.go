package media

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/ashlar-os/ashlar/internal/media/drive"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// The marker is what block 0 holds while a write goes on: lines of text, the last
// one the sha256 of those before, then zeros. It is shorter than 510 bytes, so
// that no firmware takes the block for a boot sector.
//
//	ashlar: a medium is being written here, version 1
//	map HEX
//	written BYTES
//	sha256 HEX
const markerText = "ashlar: a medium is being written here, version 1\nmap %s\nwritten %d\n"

func encodeMarker(about string, written int64) []byte {
	b := drive.Buffer(drive.Block)
	text := fmt.Appendf(nil, markerText, about, written)
	sum := sha256.Sum256(text)
	copy(b, fmt.Appendf(text, "sha256 %s\n", hex.EncodeToString(sum[:])))
	return b
}

// decodeMarker says how far the write got that a block is the marker of; 0 where
// it is none, or that of another write.
func decodeMarker(b []byte, about string) (written int64) {
	var of string
	if n, err := fmt.Sscanf(string(b[:min(len(b), 510)]), markerText, &of, &written); err != nil || n != 2 || of != about {
		return 0
	}
	if written < 0 || !bytes.Equal(b, encodeMarker(about, written)) {
		return 0
	}
	return written
}

// mark says on the drive how far the write is; what it speaks of was flushed before.
// The marker itself need not be: an older one only says less.
func (w *burn) mark(written int64) error {
	return w.put(encodeMarker(w.about, written), 0)
}

// resume finds out what a write that was cut left here: it returns the pieces
// that are missing, and nil where the write has to begin.
func (w *burn) resume(ctx context.Context) ([]piece, error) {
	first := drive.Buffer(drive.Block)
	if _, err := w.dev.ReadAt(first, 0); err != nil {
		return nil, err
	}
	written := decodeMarker(first, w.about)
	if written == 0 {
		return nil, nil
	}
	if err := w.dev.Forget(); err != nil {
		return nil, err
	}
	// The marker only says where looking is worth while.
	var there []piece
	missing := []piece{}
	for _, p := range w.pieces {
		if p.offset >= headEnd && p.end() <= written && !p.fresh {
			there = append(there, p)
		} else {
			missing = append(missing, p)
		}
	}
	w.report.Stage("looking at what is on "+w.name+" already", written, progress.Bytes)
	good := make([]bool, len(there))
	err := w.crew.each(ctx, there, func(i int, b []byte) error {
		p := &there[i]
		if _, err := w.dev.ReadAt(b, p.offset); err == nil && p.matches(b) {
			good[i] = true
		}
		w.report.Add(p.length)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, p := range there {
		if good[i] {
			w.answer.Resumed += p.length
		} else {
			missing = append(missing, p)
		}
	}
	sortPieces(missing)
	return missing, nil
}
