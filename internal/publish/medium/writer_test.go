package medium

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// memory is a disk in memory.
type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

// handMade is a table for an image of 16 MiB, and the image up to its open regions, with
// runs of content here and there.
func handMade() (*gpt.Table, []byte) {
	table := &gpt.Table{Sector: medium.SectorSize, Size: 16 << 20, Partitions: []gpt.Partition{
		{Type: gpt.TypeESP, Name: "a", Start: 1 << 20, Size: 1 << 20},
		{Type: medium.TypePayload, Name: "b", Start: 2 << 20, Size: 8 << 20},
		{Type: medium.TypePapers, Name: "c", Start: 10 << 20, Size: medium.PapersSize},
		{Type: medium.TypeAnswers, Name: "d", Start: 14 << 20, Size: medium.AnswersSize},
	}}
	image := make([]byte, 10<<20)
	r := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		at := systemArea + r.IntN(len(image)-systemArea-100_000)
		for i := range r.IntN(100_000) {
			image[at+i] = byte(r.Uint32() | 1)
		}
	}
	clear(image[5<<20 : 6<<20])
	return table, image
}

// TestWriter: whatever the size of the pieces, the image comes out whole.
func TestWriter(t *testing.T) {
	table, image := handMade()
	want := make(memory, table.Size)
	copy(want, image)
	if err := table.Write(want); err != nil {
		t.Fatal(err)
	}
	for _, piece := range []int{100, 4096, 65536, 1 << 30} {
		var blocks bytes.Buffer
		w, err := newWriter(&blocks, table, progress.None)
		if err != nil {
			t.Fatal(err)
		}
		for rest := image; len(rest) > 0; {
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

// fullDisk takes nothing.
type fullDisk struct{}

var errFull = errors.New("the disk is full")

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestWriterFails(t *testing.T) {
	table, image := handMade()
	w, err := newWriter(fullDisk{}, table, progress.None)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(image)
	_, _, last := w.finish()
	if !errors.Is(errors.Join(err, last), errFull) {
		t.Errorf("on a full disk: %v, %v", err, last)
	}

	if w, err = newWriter(&bytes.Buffer{}, table, progress.None); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ReadFrom(iotest.ErrReader(errFull)); !errors.Is(err, errFull) {
		t.Errorf("reading fails: %v", err)
	}

	for want, content := range map[string][]byte{
		`"papers" is not empty`: append(bytes.Clone(image), 1),
		"and not before":        make([]byte, 17<<20),
	} {
		if w, err = newWriter(&bytes.Buffer{}, table, progress.None); err != nil {
			t.Fatal(err)
		}
		_, err := w.Write(content)
		_, _, last := w.finish()
		if all := errors.Join(err, last); all == nil || !strings.Contains(all.Error(), want) {
			t.Errorf("error is %v, want one with %q", all, want)
		}
	}
}

// TestDisc: of what xorriso writes, the part behind partition 1 is dropped, and what is
// no image is refused.
func TestDisc(t *testing.T) {
	_, image := handMade()
	theirs := &gpt.Table{Sector: medium.SectorSize, Size: 3 << 20, Partitions: []gpt.Partition{
		{Type: gpt.TypeESP, Name: "Appended1", Start: 1 << 20, Size: 1 << 20},
	}}
	if err := theirs.Write(memory(image)); err != nil {
		t.Fatal(err)
	}
	copy(image[20_000:], "something in the system area")
	copy(image[systemArea:], "\x01CD001")
	j := &job{}
	var blocks bytes.Buffer
	d := &disc{
		plan:  func(theirs *gpt.Table) (*gpt.Table, error) { return j.table(theirs, 5<<20) },
		begin: func(ours *gpt.Table) (*writer, error) { return newWriter(&blocks, ours, progress.None) },
	}
	for rest := image[:3<<20]; len(rest) > 0; rest = rest[1000:] {
		if len(rest) < 1000 {
			rest = append(rest, make([]byte, 1000-len(rest))...)
		}
		if _, err := d.Write(rest[:1000]); err != nil {
			t.Fatal(err)
		}
	}
	m, _, err := d.w.finish()
	if err != nil {
		t.Fatal(err)
	}
	got := make(memory, m.Size)
	if err := m.WriteImage(context.Background(), got, &blocks); err != nil {
		t.Fatal(err)
	}
	table, err := gpt.Read(bytes.NewReader(got), medium.SectorSize)
	if err != nil || len(table.Partitions) != 4 || table.Partitions[1].Start != 2<<20 {
		t.Errorf("the table is %+v, %v", table, err)
	}
	if bytes.Contains(got, []byte("something in the system area")) || !bytes.Equal(got[systemArea+88:2<<20], image[systemArea+88:2<<20]) {
		t.Error("the disc's content is not what xorriso wrote")
	}

	if sectors := binary.LittleEndian.Uint32(got[systemArea+80:]); int64(sectors)*discSector != m.Size || sectors != binary.BigEndian.Uint32(got[systemArea+84:]) {
		t.Errorf("the volume has %d sectors, and the image %d bytes", sectors, m.Size)
	}

	theirs.Partitions[0].Start += 4096
	theirs.Partitions[0].Size -= 4096
	odd := make(memory, 3<<20)
	if err := theirs.Write(odd); err != nil {
		t.Fatal(err)
	}
	bare := make(memory, 3<<20)
	theirs.Partitions[0].Start, theirs.Partitions[0].Size = 1<<20, 1<<20
	if err := theirs.Write(bare); err != nil {
		t.Fatal(err)
	}
	for want, image := range map[string][]byte{"no GPT": make([]byte, systemArea+discSector), "whole MiB": odd, "no primary volume descriptor": bare} {
		d := &disc{plan: d.plan, begin: d.begin}
		if _, err := d.Write(image); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
	}
}
