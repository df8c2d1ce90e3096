package composefs

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzParseDump: no dump makes the parser panic, and what it accepts can be
// written, read and printed without a difference.
func FuzzParseDump(f *testing.F) {
	for _, v := range readVectors(f) {
		if len(v.dump) < 10_000 {
			f.Add(v.dump)
		}
	}
	f.Add("/ 0 40755 2 0 0 0 0.0 - - -\n/b 0 100644 2 0 0 0 1.5 - - - user.a=\\x00\n/a 0 @100644 2 0 0 0 0.0 /b - -\n/w 0 20000 1 0 0 0 -3.1 - - -\n")
	f.Add("/ 0 40755 2 0 0 0 0.0 - - - trusted.overlay.opaque=y\n/00 9 100644 1 0 0 0 0.0 x/y - " + strings.Repeat("ab", 32) + "\n/s 1 120777 1 0 0 0 0.0 \\x2d - -\n")
	f.Fuzz(func(t *testing.T, text string) {
		tr, err := ParseDump(strings.NewReader(text))
		if err != nil {
			if !strings.Contains(err.Error(), "dump") {
				t.Errorf("the error does not say that it is about a dump: %v", err)
			}
			return
		}
		image := write(t, tr, Options{})
		back := read(t, image)
		if again := write(t, back, Options{}); !bytes.Equal(again, image) {
			t.Errorf("what was read gives another image\n%s\n%s", dump(t, tr), dump(t, back))
		}
		if again := write(t, parse(t, dump(t, tr)), Options{}); !bytes.Equal(again, image) {
			t.Errorf("the printed dump gives another image\n%s", dump(t, tr))
		}
	})
}

// FuzzRead: no image makes the reader panic or use much more memory than the
// image has bytes, and what it gives back is a tree that can be written.
func FuzzRead(f *testing.F) {
	for _, v := range readVectors(f) {
		if image := write(f, parse(f, v.dump), v.options); len(image) < 40_000 {
			f.Add(image)
		}
	}
	for seed := range uint64(3) {
		f.Add(write(f, randomTree(seed, 20), Options{}))
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		if len(image) > 1<<20 {
			return
		}
		objects, objectsErr := Objects(bytes.NewReader(image), int64(len(image)))
		tr, err := ReadBytes(image)
		if err != nil {
			return
		}
		for _, o := range []Options{{}, {Exact: true}} {
			second := read(t, write(t, tr, o))
			if dump(t, second) != dump(t, tr) {
				t.Errorf("what was read is another tree after it was written and read again\n%s\n%s", dump(t, tr), dump(t, second))
			}
		}
		// An image that Read takes need not be laid out as ours are, and then
		// Objects refuses it; but it must not invent anything.
		if objectsErr == nil && len(objects) > len(tr.Objects())+len(image)/slotSize {
			t.Errorf("%d objects in an image of %d bytes", len(objects), len(image))
		}
	})
}
