package media

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/media/drive"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// Verified is what comparing a medium with its map brought to light.
type Verified struct {
	Bytes   int64    `json:"bytes"`   // in use, and compared
	Changed []Change `json:"changed"` // what is not as it was signed
	Empty   int64    `json:"empty"`   // that have to be zero, and were read too
	Answers *Answers `json:"answers"` // null: there are none
}

// Change is a range that is not as it was signed, in bytes. That the map knows it no
// more closely does not mean that all of it is wrong.
type Change struct {
	Part   string `json:"part"` // in words
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	Error  string `json:"error,omitempty"` // it could not be read
}

// Answers is what stands in the region that nobody signs.
type Answers struct {
	Digest digest.Digest `json:"digest"` // of the text
	Size   int64         `json:"size"`
}

// Verify compares everything on a medium that is in use with its map, which was
// believed before, and sees that the rest of it is zero. What a drive has behind the
// medium's end is nobody's.
func (m *Medium) Verify(ctx context.Context, report progress.Reporter) (*Verified, error) {
	v := &Verified{Bytes: m.Map.Data(), Changed: []Change{}}
	if err := m.dev.Forget(); err != nil {
		return nil, err
	}
	report.Stage("reading "+m.Name, m.Map.Size, progress.Bytes)
	pieces := m.Source().extents()
	var mu sync.Mutex
	err := newCrew().each(ctx, pieces, func(i int, b []byte) error {
		p := &pieces[i]
		_, err := m.dev.ReadAt(b, p.offset)
		if err != nil || !p.matches(b) {
			mu.Lock()
			defer mu.Unlock()
			v.Changed = append(v.Changed, m.change(p, err))
		}
		report.Add(p.length)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := m.holes(ctx, v, report); err != nil {
		return nil, err
	}
	slices.SortFunc(v.Changed, func(a, b Change) int { return cmp.Compare(a.Offset, b.Offset) })
	return v, m.answers(v)
}

// change describes a piece that is wrong.
func (m *Medium) change(p *piece, err error) Change {
	c := Change{Part: m.part(p), Offset: p.offset, Length: p.length}
	if err != nil {
		c.Error = err.Error()
	}
	return c
}

// part says in words what a piece belongs to. The table of partitions is believed
// as far as words go: where it was changed itself, that is said first.
func (m *Medium) part(p *piece) string {
	for _, part := range m.parts {
		if p.offset >= part.Start+part.Size || p.end() <= part.Start {
			continue
		}
		switch part.Name {
		case medium.LabelESP:
			return "the boot partition (" + part.Name + "), which holds the loader and the boot file"
		case medium.LabelPayload:
			return "the payload (" + part.Name + "), which holds the system"
		}
		return fmt.Sprintf("partition %d, %q", part.Number, part.Name)
	}
	return "the partition table and the start of the medium"
}

// holes reads what has to be zero.
func (m *Medium) holes(ctx context.Context, v *Verified, report progress.Reporter) error {
	used := m.Source().extents()
	for _, r := range m.Map.Open {
		used = append(used, piece{offset: r.Offset, length: r.Length})
	}
	sortPieces(used)
	b := drive.Buffer(maxPiece)
	for _, h := range holesOf(used, m.Map.Size) {
		v.Empty += h.to - h.from
		for at := h.from; at < h.to; {
			if err := ctx.Err(); err != nil {
				return err
			}
			p := piece{offset: at, length: min(maxPiece, h.to-at)}
			part := b[:p.length]
			if _, err := m.dev.ReadAt(part, at); err != nil {
				v.Changed = append(v.Changed, m.change(&p, err))
			} else if first, last := notZero(part); first < last {
				v.Changed = append(v.Changed, m.change(&piece{offset: at + first, length: last - first}, nil))
			}
			at += p.length
			report.Add(p.length)
		}
	}
	return nil
}

// notZero is from the first to behind the last block of b that is not zero.
func notZero(b []byte) (first, last int64) {
	first = int64(len(b))
	for at := int64(0); at < int64(len(b)); at += drive.Block {
		if !bytes.Equal(b[at:at+drive.Block], zeros[:]) {
			first, last = min(first, at), at+drive.Block
		}
	}
	return first, last
}

var zeros [drive.Block]byte

func (m *Medium) answers(v *Verified) error {
	region := m.Map.Region(medium.RegionAnswers)
	b := drive.Buffer(int(region.Length))
	if _, err := m.dev.ReadAt(b, region.Offset); err != nil {
		return fmt.Errorf("reading the answers on %s: %w", m.Name, err)
	}
	text := bytes.TrimRight(b, "\x00")
	if len(text) > 0 {
		sum := sha256.Sum256(text)
		v.Answers = &Answers{Digest: digest.NewDigestFromBytes(digest.SHA256, sum[:]), Size: int64(len(text))}
	}
	return nil
}
