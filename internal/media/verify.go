package media

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
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
	Unused  int64    `json:"unused"`  // bytes of the image in no use, of which
	Left    int64    `json:"left"`    // so many are not zero: left there, and read by nothing
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
// believed before, and looks at the rest.
func (m *Medium) Verify(ctx context.Context, report progress.Reporter) (*Verified, error) {
	v := &Verified{Bytes: m.Map.Data(), Changed: []Change{}, Unused: m.Map.Size}
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
	slices.SortFunc(v.Changed, func(a, b Change) int { return cmp.Compare(a.Offset, b.Offset) })
	if err := m.holes(ctx, v, report); err != nil {
		return nil, err
	}
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

// holes looks at what the map does not speak of. Nothing that boots reads it: whatever
// says where something is, is in use itself. So it is told, and is no damage: a drive that
// cannot discard keeps there what it held before.
func (m *Medium) holes(ctx context.Context, v *Verified, report progress.Reporter) error {
	type span struct{ from, to int64 }
	var used []span
	for _, e := range m.Map.Extents {
		used = append(used, span{e.Offset, e.Offset + e.Length})
	}
	for _, r := range m.Map.Open {
		used = append(used, span{r.Offset, r.Offset + r.Length})
	}
	used = append(used, span{m.Map.Size, m.Map.Size})
	slices.SortFunc(used, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	b := drive.Buffer(maxPiece)
	at := int64(0)
	for _, u := range used {
		v.Unused -= u.to - u.from
		for at < u.from {
			if err := ctx.Err(); err != nil {
				return err
			}
			part := b[:min(maxPiece, u.from-at)]
			if _, err := m.dev.ReadAt(part, at); err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("reading %s: %w", m.Name, err)
			}
			for i := 0; i < len(part); i += drive.Block {
				if block := part[i : i+drive.Block]; !bytes.Equal(block, zeros[:]) {
					v.Left += drive.Block - int64(bytes.Count(block, zeros[:1]))
				}
			}
			at += int64(len(part))
			report.Add(int64(len(part)))
		}
		at = u.to
	}
	return nil
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
