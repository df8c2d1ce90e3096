package medium

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// sample is a map and its blob of blocks.
func sample() (*Map, []byte) {
	r := rand.New(rand.NewPCG(1, 2))
	m := &Map{Schema: Schema, Size: 32 << 20, Open: []Region{
		{RegionPapers, 16 << 20, PapersSize}, {RegionAnswers, 20 << 20, AnswersSize},
	}}
	var blocks []byte
	for _, at := range [][2]int64{{0, 2}, {2, 1024}, {1026, 1}, {4000, 96}, {6000, 5}, {8191, 1}} {
		content := make([]byte, at[1]*BlockSize)
		for i := range content {
			content[i] = byte(r.Uint32())
		}
		m.Extents = append(m.Extents, Extent{Offset: at[0] * BlockSize, Length: int64(len(content)), SHA256: sha256.Sum256(content)})
		blocks = append(blocks, content...)
	}
	return m, blocks
}

func TestMapComesBack(t *testing.T) {
	m, blocks := sample()
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeMap(b)
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("read %+v (%v), want %+v", got, err, m)
	}
	if m.Data() != int64(len(blocks)) {
		t.Errorf("%d bytes in use, want %d", m.Data(), len(blocks))
	}
	if at := m.Region(RegionAnswers); at.Offset != 20<<20 {
		t.Errorf("the answers are at %d", at.Offset)
	}
	for i, place := range m.Places() {
		e := m.Extents[i]
		if err := e.Check(blocks[place : place+e.Length]); err != nil {
			t.Error(err)
		}
	}
}

func TestDecodeMapRefuses(t *testing.T) {
	m, _ := sample()
	good, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	digest := m.Extents[0].SHA256.String()
	for _, c := range []struct{ name, old, new, want string }{
		{"newer schema", `"schema":1`, `"schema":2`, "schema 2"},
		{"no schema", `"schema":1,`, ``, "schema 0"},
		{"unknown field", `"size"`, `"sise"`, "sise"},
		{"not whole blocks", `"size":33554432`, `"size":33554433`, `"size"`},
		{"too large", `"size":33554432`, `"size":1099511631872`, `"size"`},
		{"negative size", `"size":33554432`, `"size":-4096`, `"size"`},
		{"huge offset", `"offset":33550336`, `"offset":9223372036854771712`, "outside"},
		{"past the end", `"size":33554432`, `"size":33550336`, "outside"},
		{"extent too long", `"length":4194304,"sha256"`, `"length":8388608,"sha256"`, "at most 4194304"},
		{"no length", `"length":8192,`, `"length":0,`, "not whole blocks"},
		{"negative length", `"length":8192,`, `"length":-4096,`, "not whole blocks"},
		{"overlap", `"offset":4202496`, `"offset":4198400`, "lies over"},
		{"out of order", `"offset":24576000`, `"offset":4096000`, "lies over"},
		{"over the papers", `"offset":24576000`, `"offset":16777216`, "lies over"},
		{"first block free", `"offset":0,"length":8192`, `"offset":4096,"length":4096`, "nothing would boot"},
		{"capital digits", digest, strings.ToUpper(digest), "lower-case"},
		{"short digest", digest, digest[2:], "lower-case"},
		{"region of another name", `"answers"`, `"answer"`, `"open"`},
		{"large region", `"length":262144`, `"length":266240`, `"open"`},
		{"region outside", `"offset":20971520`, `"offset":33550336`, "open[1]"},
		{"another form", `"size":`, `"size": `, "canonical"},
		{"field twice", `"schema":1,`, `"schema":1,"schema":1,`, "canonical"},
		{"something behind it", "}\n", "}\n{}", "after top-level value"},
		{"no JSON", `{"schema"`, `"schema"`, "invalid"},
	} {
		if !strings.Contains(string(good), c.old) {
			t.Fatalf("%s: the case changes nothing", c.name)
		}
		got, err := DecodeMap([]byte(strings.Replace(string(good), c.old, c.new, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "reading the medium's map: ") {
			t.Errorf("%s: read %v, error %v, want one with %q", c.name, got, err, c.want)
		}
	}
	if _, err := DecodeMap(make([]byte, MaxMap+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too long: %v", err)
	}
	m.Extents = make([]Extent, maxExtents+1)
	if _, err := m.Encode(); err == nil || !strings.Contains(err.Error(), "extents") {
		t.Errorf("too many extents: %v", err)
	}
}

// bytesAt is an image in memory.
type bytesAt []byte

func (b bytesAt) WriteAt(p []byte, off int64) (int, error) { return copy(b[off:], p), nil }

func TestWriteImage(t *testing.T) {
	m, blocks := sample()
	image := make(bytesAt, m.Size)
	if err := m.WriteImage(context.Background(), image, bytes.NewReader(blocks)); err != nil {
		t.Fatal(err)
	}
	places := m.Places()
	for i, e := range m.Extents {
		if !bytes.Equal(image[e.Offset:e.Offset+e.Length], blocks[places[i]:places[i]+e.Length]) {
			t.Errorf("extent %d has other content", i)
		}
		clear(image[e.Offset : e.Offset+e.Length])
	}
	if !zero(image) {
		t.Error("something was written outside of the extents")
	}
}

func TestWalkRefuses(t *testing.T) {
	m, blocks := sample()
	nothing := func(Extent, []byte) error { return nil }
	changed := bytes.Clone(blocks)
	changed[m.Places()[3]+17] ^= 1
	var mismatch *MismatchError
	if err := m.Walk(context.Background(), bytes.NewReader(changed), nothing); !errors.As(err, &mismatch) || mismatch.Extent != m.Extents[3] {
		t.Errorf("a changed block: %v", err)
	}
	if err := m.Walk(context.Background(), bytes.NewReader(blocks[:len(blocks)-1]), nothing); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("blocks that end early: %v", err)
	}
	if err := m.Walk(context.Background(), bytes.NewReader(append(blocks, 0)), nothing); err == nil || !strings.Contains(err.Error(), "follows") {
		t.Errorf("blocks that go on: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := m.Walk(ctx, bytes.NewReader(blocks), nothing); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func FuzzDecodeMap(f *testing.F) {
	m, _ := sample()
	good, err := m.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"schema":1,"size":4096,"extents":[{"offset":0,"length":4096,"sha256":"00"}],"open":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMap(b)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("what DecodeMap takes, Encode must write: %v\n%s\n%s", err, b, again)
		}
		var end int64
		for _, e := range m.Extents {
			if e.Offset < end || e.Length <= 0 || e.Length > MaxExtent || e.Offset+e.Length > m.Size {
				t.Errorf("extent %+v after %d in an image of %d", e, end, m.Size)
			}
			end = e.Offset + e.Length
		}
	})
}
