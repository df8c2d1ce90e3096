package medium

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// memory is a disk in memory.
type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

// handMade is an image as xorriso's, of 16 MiB, with runs of content here and there.
func handMade(t *testing.T) (image memory, plan func(*gpt.Table, int64) (*gpt.Table, error)) {
	t.Helper()
	image = make(memory, 16<<20)
	table := &gpt.Table{Sector: medium.SectorSize, Size: int64(len(image)), Partitions: []gpt.Partition{
		{Type: gpt.TypeESP, Name: "theirs", Start: 1 << 20, Size: 1 << 20},
		{Type: medium.TypePayload, Name: "theirs", Start: 2 << 20, Size: 8 << 20},
		{Type: medium.TypePapers, Name: "theirs", Start: 10 << 20, Size: medium.PapersSize},
		{Type: medium.TypeAnswers, Name: "theirs", Start: 14 << 20, Size: medium.AnswersSize},
	}}
	if err := table.Write(image); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		at := systemArea + r.IntN(10<<20-systemArea-100_000)
		for i := range r.IntN(100_000) {
			image[at+i] = byte(r.Uint32() | 1)
		}
	}
	clear(image[5<<20 : 6<<20])
	for i := range 3000 {
		image[16<<20-40_000+i] = 'x' // xorriso's larger backup table
		image[20_000+i] = 'x'
	}
	return image, func(theirs *gpt.Table, size int64) (*gpt.Table, error) {
		ours := *theirs
		ours.Size, ours.Partitions = size, nil
		for _, p := range theirs.Partitions {
			p.Name = "ours"
			ours.Partitions = append(ours.Partitions, p)
		}
		return &ours, nil
	}
}

// TestWriter: whatever the size of the pieces, the image comes out whole, with the
// other partition table and nothing of the first.
func TestWriter(t *testing.T) {
	image, plan := handMade(t)
	want := bytes.Clone(image)
	clear(want[:systemArea])
	clear(want[14<<20+medium.AnswersSize:])
	table, err := gpt.Read(bytes.NewReader(image), medium.SectorSize)
	if err != nil {
		t.Fatal(err)
	}
	if table, err = plan(table, int64(len(image))); err != nil {
		t.Fatal(err)
	}
	if err := table.Write(memory(want)); err != nil {
		t.Fatal(err)
	}
	for _, piece := range []int{100, 4096, 65536, 1 << 30} {
		var blocks bytes.Buffer
		w := newWriter(&blocks, plan, progress.None)
		for rest := []byte(image); len(rest) > 0; {
			n := min(piece, len(rest))
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		m, _, err := w.finish()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Encode(); err != nil {
			t.Fatal(err)
		}
		got := make(memory, m.Size)
		if err := m.WriteImage(context.Background(), got, &blocks); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("pieces of %d bytes: another image comes out", piece)
		}
		if m.Data() > 9<<20 {
			t.Errorf("%d bytes are in use: the hole is not left out", m.Data())
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(image memory) []byte
		want   string
	}{
		"ends early":    {func(image memory) []byte { return image[:len(image)-8192] }, "says otherwise"},
		"goes on":       {func(image memory) []byte { return append(image, make([]byte, 4096)...) }, "longer than"},
		"half a block":  {func(image memory) []byte { return image[:len(image)-100] }, "longer than"},
		"no table":      {func(image memory) []byte { return make([]byte, 8<<20) }, "no GPT"},
		"nothing":       {func(image memory) []byte { return nil }, "says otherwise"},
		"open and full": {func(image memory) []byte { image[14<<20+5] = 1; return image }, `"answers" is not empty`},
		"no end": {func(image memory) []byte {
			h := image[medium.SectorSize : 2*medium.SectorSize]
			binary.LittleEndian.PutUint64(h[32:], 1<<50)
			binary.LittleEndian.PutUint32(h[16:], 0)
			binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
			return image
		}, "does not say where it ends"},
	} {
		image, plan := handMade(t)
		var blocks bytes.Buffer
		w := newWriter(&blocks, plan, progress.None)
		_, first := w.Write(c.change(image))
		_, _, err := w.finish()
		if err == nil || !strings.Contains(err.Error(), c.want) || first != nil && first != err {
			t.Errorf("%s: error is %v, then %v, want one with %q", name, first, err, c.want)
		}
	}
}
