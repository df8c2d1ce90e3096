package composefs

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

func read(t testing.TB, image []byte) *tree.Tree {
	t.Helper()
	tr, err := Read(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func dump(t testing.TB, tr *tree.Tree) string {
	t.Helper()
	var b strings.Builder
	if err := WriteDump(&b, tr); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// checkRoundTrips: what was written reads as the tree it was made of, as a dump
// too, and the list of objects is the same with and without a tree.
func checkRoundTrips(t testing.TB, tr *tree.Tree, o Options) {
	t.Helper()
	image := write(t, tr, o)
	back := read(t, image)
	want := dump(t, tr)
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(dump(t, back), "\n")); diff != "" {
		t.Fatalf("the image reads differently from what was written (-written +read):\n%s", diff)
	}
	if again := write(t, back, o); !bytes.Equal(again, image) {
		t.Fatal("what was read gives another image")
	}
	if again := write(t, parse(t, want), o); !bytes.Equal(again, image) {
		t.Fatal("the dump gives another image")
	}
	objects, err := Objects(bytes.NewReader(image), int64(len(image)))
	if err != nil || !slices.Equal(objects, tr.Objects()) {
		t.Fatalf("Objects finds %d objects in the image, the tree has %d: %v", len(objects), len(tr.Objects()), err)
	}
	digest, size, err := DigestWith(tr, o)
	if err != nil || size != int64(len(image)) || digest != sumVerity(image) {
		t.Fatalf("DigestWith gives %s, %d, %v for an image of %d bytes", digest, size, err, len(image))
	}
}

func TestVectorsRoundTrip(t *testing.T) {
	for _, v := range readVectors(t) {
		t.Run(v.name, func(t *testing.T) { checkRoundTrips(t, parse(t, v.dump), v.options) })
	}
}
