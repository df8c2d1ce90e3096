package pack

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// encoded builds an index from bare numbers, as someone hostile would.
func encoded(numbers ...uint64) []byte {
	b := []byte(magic)
	for _, n := range numbers {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// two are the objects of the image that hostile indexes are decoded against.
var two = []tree.Object{{Digest: verity.Digest{1}, Size: 1000}, {Digest: verity.Digest{2}, Size: 512}}

func TestDecodeIndexByHand(t *testing.T) {
	// Two frames: 300 bytes for 2 KiB (header, 1000 bytes, 24 of padding, header)
	// and 200 bytes for 1 KiB (512 bytes, 512 of something else).
	x, err := DecodeIndex(encoded(2, 2, 300, 4, 200, 2, 1, 1), two, 500)
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{{two[0], 0, 512}, {two[1], 1, 0}}
	if x.Objects[0] != want[0] || x.Objects[1] != want[1] {
		t.Errorf("objects are %v, want %v", x.Objects, want)
	}
	if f := (Frame{Offset: 300, Length: 200, Start: 2048, Size: 1024}); x.Frames[1] != f {
		t.Errorf("frame 1 is %v, want %v", x.Frames[1], f)
	}
}

func TestDecodeIndexRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		b       []byte
		objects []tree.Object
		blob    int64
		want    string // in the error
	}{
		"nothing":                   {nil, two, 500, "does not begin"},
		"another version":           {append([]byte("ashpack2"), encoded(2, 2, 300, 4, 200, 2, 1, 1)[8:]...), two, 500, "does not begin"},
		"a cut":                     {encoded(2, 2, 300, 4, 200, 2, 1), two, 500, "middle of a number"},
		"a cut in a number":         {append(encoded(2, 2, 300, 4, 200, 2, 1), 0x80), two, 500, "middle of a number"},
		"bytes after the end":       {encoded(2, 2, 300, 4, 200, 2, 1, 1, 0), two, 500, "follow its end"},
		"a long form of a one":      {append(encoded(2, 2, 300, 4, 200, 2, 1), 0x81, 0), two, 500, "shortest form"},
		"a number over 64 bits":     {append(encoded(), bytes.Repeat([]byte{0xff}, 11)...), two, 500, "over 64 bits"},
		"frames without bytes":      {encoded(math.MaxUint64, 2, 300, 4), two, 500, "do not fit"},
		"other objects":             {encoded(2, 1, 300, 4, 200, 2, 1, 1), two, 500, "the image has 2"},
		"a frame of no bytes":       {encoded(2, 2, 0, 4, 500, 2, 1, 1), two, 500, "length of frame 0"},
		"a frame of no content":     {encoded(2, 2, 300, 0, 200, 2, 1, 1), two, 500, "size of frame 0"},
		"a frame beyond limits":     {encoded(2, 2, 300, MaxFrame/block+1, 200, 2, 1, 1), two, 500, "size of frame 0"},
		"a frame that overflows":    {encoded(2, 2, math.MaxUint64, 4, 200, 2, 1, 1), two, 500, "length of frame 0"},
		"a size that overflows":     {encoded(2, 2, 300, 1<<55, 200, 2, 1, 1), two, 500, "size of frame 0"},
		"a frame that expands":      {encoded(1, 2, 5000, 8, 1, 1), two, 5000, "length of frame 0"},
		"a blob that is shorter":    {encoded(2, 2, 300, 4, 200, 2, 1, 1), two, 499, "ends after"},
		"a blob that is longer":     {encoded(2, 2, 300, 4, 200, 2, 1, 1), two, 501, "the blob has 501"},
		"an object after the end":   {encoded(2, 2, 300, 4, 200, 2, 1, 4), two, 500, "begins after"},
		"an object over the end":    {encoded(2, 2, 300, 4, 200, 2, 1, 3), two, 500, "do not fit in the tar"},
		"a gap that overflows":      {encoded(2, 2, 300, 4, 200, 2, 1, math.MaxUint64), two, 500, "begins after"},
		"no frames but objects":     {encoded(0, 2, 0, 0), two, 0, "do not fit in the tar"},
		"an empty object":           {encoded(1, 1, 300, 4, 1, 1), []tree.Object{{Digest: verity.Digest{1}}}, 300, "do not fit"},
		"an object of 2^64-1 bytes": {encoded(1, 1, 300, 4, 1), []tree.Object{{Digest: verity.Digest{1}, Size: math.MaxUint64}}, 300, "do not fit in the tar"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeIndex(c.b, c.objects, c.blob)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want one with %q", err, c.want)
			}
		})
	}
}

// FuzzDecodeIndex checks that whatever is accepted encodes to the same bytes and
// can be planned and walked without leaving the blob.
func FuzzDecodeIndex(f *testing.F) {
	f.Add(encoded(2, 2, 300, 4, 200, 2, 1, 1), int64(500), uint64(1000), uint64(512))
	f.Add(encoded(3, 2, 100, 8192, 100, 8192, 100, 2, 1, 0), int64(300), uint64(6<<20), uint64(65))
	f.Add(encoded(0, 0), int64(0), uint64(1), uint64(1))
	f.Fuzz(func(t *testing.T, b []byte, blob int64, a, z uint64) {
		objects := []tree.Object{{Digest: verity.Digest{1}, Size: a}, {Digest: verity.Digest{2}, Size: z}}
		x, err := DecodeIndex(b, objects, blob)
		if err != nil {
			return
		}
		if !bytes.Equal(x.Encode(), b) {
			t.Fatalf("an accepted index encodes to other bytes")
		}
		got := 0
		for _, rg := range x.Plan(nil, PlanOptions{Gap: 10, MaxRange: 100, MaxRequests: 3}) {
			got += len(rg.Objects)
			if rg.Offset < 0 || rg.Length <= 0 || rg.end() > blob {
				t.Fatalf("a range from %d of %d bytes is not in the blob's %d", rg.Offset, rg.Length, blob)
			}
		}
		if got != len(objects) {
			t.Fatalf("%d objects are planned of %d", got, len(objects))
		}
	})
}
