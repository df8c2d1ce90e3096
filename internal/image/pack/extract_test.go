package pack

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// squeeze compresses b into one frame.
func squeeze(tb testing.TB, b []byte, o ...zstd.EOption) []byte {
	tb.Helper()
	enc, err := zstd.NewWriter(nil, o...)
	if err != nil {
		tb.Fatal(err)
	}
	defer enc.Close()
	return enc.EncodeAll(b, nil)
}

// drain reads every object to its end.
func drain(_ tree.Object, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// TestExtractRefuses gives Extract frames that are not what the index says.
func TestExtractRefuses(t *testing.T) {
	content := make([]byte, 4*block)
	good := squeeze(t, content)
	// The decoder's own limit: a frame whose header says what the index says and
	// whose blocks expand to more. Byte 4 is the descriptor, with one segment and
	// a size field of two bytes that counts from 256 (RFC 8878, 3.1.1.1).
	bomb := squeeze(t, make([]byte, 60_000))
	small := uint16(len(content) - 256)
	if bomb[4] != good[4] {
		t.Fatalf("the descriptors are %#x and %#x", bomb[4], good[4])
	}
	bomb[5], bomb[6] = byte(small), byte(small>>8)
	stream := squeeze(t, content)
	for name, c := range map[string]struct {
		blob []byte
		want string
	}{
		"garbage":             {bytes.Repeat([]byte{7}, 40), "no zstd frame"},
		"a cut frame":         {good[:len(good)-5], "decompressing frame 0"},
		"another size":        {squeeze(t, content[:3*block]), "it has 1536 bytes, the index says 2048"},
		"a bomb":              {bomb, "decompressing frame 0"},
		"a skippable frame":   {append([]byte{0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4}, good...), "skippable"},
		"a dictionary":        {squeeze(t, content, zstd.WithEncoderDictRaw(99, content)), "dictionary"},
		"two frames":          {append(stream, good...), "decompressing frame 0"},
		"bytes after it":      {append(squeeze(t, content), 1, 2, 3), "decompressing frame 0"},
		"a header and no end": {good[:4], "no zstd frame"},
	} {
		t.Run(name, func(t *testing.T) {
			x, err := DecodeIndex(encoded(1, 1, uint64(len(c.blob)), 4, 1), []tree.Object{{Digest: verity.Digest{1}, Size: 1000}}, int64(len(c.blob)))
			if err != nil {
				t.Fatal(err)
			}
			err = Extract(bytes.NewReader(c.blob), x.Plan(nil, PlanOptions{})[0], drain)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestExtractOfACutRange: where the bytes end early, so does Extract, with an
// error, and put is given no short object as a whole one.
func TestExtractOfACutRange(t *testing.T) {
	tr, c := systemTree()
	blob, res := mustWrite(t, tr, c, Options{})
	rg := res.Index.Plan(nil, PlanOptions{})[0]
	for n := int64(0); n < rg.Length; n += rg.Length/50 + 1 {
		err := Extract(bytes.NewReader(blob[rg.Offset:rg.Offset+n]), rg, func(o tree.Object, r io.Reader) error {
			if got, err := io.ReadAll(r); err == nil && uint64(len(got)) != o.Size {
				t.Errorf("with %d bytes of the range, object %q has %d bytes of %d and no error", n, o.Digest, len(got), o.Size)
			}
			return nil // a careless put, that forgets what went wrong
		})
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("with %d bytes of the range the error is %v", n, err)
		}
	}
}

// TestPutDecides: put's error comes back as it is, and an object that it does
// not read does not disturb the next.
func TestPutDecides(t *testing.T) {
	tr, c := randomTree(6, 300, 9<<20)
	blob, res := mustWrite(t, tr, c, Options{})
	stop := errors.New("the disk is full")
	for _, rg := range res.Index.Plan(nil, PlanOptions{MaxRange: 2 << 20}) {
		part := blob[rg.Offset:rg.end()]
		if err := Extract(bytes.NewReader(part), rg, func(tree.Object, io.Reader) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("the error is %v", err)
		}
		n := 0
		err := Extract(bytes.NewReader(part), rg, func(o tree.Object, r io.Reader) error {
			if n++; n%2 == 0 {
				_, err := io.CopyN(io.Discard, r, int64(o.Size/2))
				return err
			}
			got, err := io.ReadAll(r)
			if err == nil && !bytes.Equal(got, c[o.Digest]) {
				t.Errorf("object %q has other content", o.Digest)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// FuzzExtract: whatever a frame holds, Extract ends with an error or with exactly
// the bytes that the index promises.
func FuzzExtract(f *testing.F) {
	f.Add(squeeze(f, make([]byte, 4*block)))
	f.Add(squeeze(f, bytes.Repeat([]byte("abcdefgh"), 256), zstd.WithEncoderCRC(false)))
	f.Fuzz(func(t *testing.T, blob []byte) {
		x, err := DecodeIndex(encoded(1, 1, uint64(len(blob)), 4, 1), []tree.Object{{Digest: verity.Digest{1}, Size: 1000}}, int64(len(blob)))
		if err != nil {
			return
		}
		got := -1
		err = Extract(bytes.NewReader(blob), x.Plan(nil, PlanOptions{})[0], func(_ tree.Object, r io.Reader) error {
			b, err := io.ReadAll(r)
			got = len(b)
			return err
		})
		if err == nil && got != 1000 {
			t.Fatalf("an object of 1000 bytes came with %d", got)
		}
	})
}
