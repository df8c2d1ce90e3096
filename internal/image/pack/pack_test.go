package pack

import (
	"bytes"
	"context"
	"io"
	"reflect"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// mustWrite packs t in memory.
func mustWrite(tb testing.TB, t *tree.Tree, c contents, o Options) ([]byte, Result) {
	tb.Helper()
	var b bytes.Buffer
	res, err := Write(context.Background(), &b, t, c.open, o)
	if err != nil {
		tb.Fatal(err)
	}
	return b.Bytes(), res
}

func TestEveryObjectComesBack(t *testing.T) {
	for seed := range uint64(6) {
		tr, c := randomTree(seed, 600, 9<<20)
		blob, res := mustWrite(t, tr, c, Options{})
		x, err := DecodeIndex(res.Index.Encode(), tr.Objects(), int64(len(blob)))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !reflect.DeepEqual(x, res.Index) {
			t.Fatalf("seed %d: the decoded index differs from the one written", seed)
		}
		// Every third object, and all of them.
		for _, missing := range []func(verity.Digest) bool{nil, func(d verity.Digest) bool { return d[0]%3 == 0 }} {
			want := map[verity.Digest]bool{}
			for _, o := range tr.Objects() {
				if missing == nil || missing(o.Digest) {
					want[o.Digest] = true
				}
			}
			for _, rg := range x.Plan(missing, PlanOptions{Gap: 1000, MaxRange: 1 << 20, MaxRequests: 20}) {
				part := bytes.NewReader(blob[rg.Offset : rg.Offset+rg.Length])
				err := Extract(part, rg, func(o tree.Object, r io.Reader) error {
					got, err := io.ReadAll(r)
					if err != nil {
						return err
					}
					if !bytes.Equal(got, c[o.Digest]) {
						t.Errorf("seed %d: object %q has %d bytes, not the %d that went in, or others", seed, o.Digest, len(got), o.Size)
					}
					if !want[o.Digest] {
						t.Errorf("seed %d: object %q was not wanted, or came twice", seed, o.Digest)
					}
					delete(want, o.Digest)
					return nil
				})
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if part.Len() != 0 {
					t.Errorf("seed %d: %d bytes of the range were not read", seed, part.Len())
				}
			}
			if len(want) != 0 {
				t.Errorf("seed %d: %d objects did not come", seed, len(want))
			}
		}
	}
}
