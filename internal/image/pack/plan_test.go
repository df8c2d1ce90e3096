package pack

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// rowIndex makes an index of n frames of length bytes with one object in each.
func rowIndex(n int, length int64) *Index {
	x := &Index{}
	for i := range n {
		x.Frames = append(x.Frames, Frame{Offset: int64(i) * length, Length: length, Start: int64(i) * MaxFrame, Size: MaxFrame})
		x.Objects = append(x.Objects, Entry{Object: tree.Object{Digest: number(i), Size: 1000}, Frame: i, Offset: 512})
	}
	return x
}

func number(i int) verity.Digest {
	return verity.Digest{byte(i), byte(i >> 8), byte(i >> 16), 1}
}

// wants makes the missing function for the objects of these numbers.
func wants(list ...int) func(verity.Digest) bool {
	return func(d verity.Digest) bool {
		for _, i := range list {
			if d == number(i) {
				return true
			}
		}
		return false
	}
}

func TestPlan(t *testing.T) {
	x := rowIndex(20, 100)
	for name, c := range map[string]struct {
		missing func(verity.Digest) bool
		o       PlanOptions
		want    string
	}{
		"nothing missing":        {wants(), PlanOptions{}, ""},
		"all, by default":        {nil, PlanOptions{}, "0+2000 "},
		"all, in ranges":         {nil, PlanOptions{MaxRange: 850}, "0+800 800+800 1600+400 "},
		"apart by the gap":       {wants(1, 4), PlanOptions{Gap: 200}, "100+400 "},
		"apart by more":          {wants(1, 4), PlanOptions{Gap: 199}, "100+100 400+100 "},
		"few requests":           {wants(0, 3, 5, 9, 19), PlanOptions{Gap: 1, MaxRequests: 3}, "0+600 900+100 1900+100 "},
		"one request":            {wants(0, 19), PlanOptions{Gap: 1, MaxRange: 100, MaxRequests: 1}, "0+2000 "},
		"split between, not in":  {wants(0, 1, 5, 6), PlanOptions{Gap: 1000, MaxRange: 300}, "0+200 500+200 "},
		"requests before ranges": {nil, PlanOptions{MaxRange: 100, MaxRequests: 5}, "0+400 400+400 800+400 1200+400 1600+400 "},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			for _, rg := range x.Plan(c.missing, c.o) {
				got += fmt.Sprintf("%d+%d ", rg.Offset, rg.Length)
			}
			if got != c.want {
				t.Errorf("the plan is %q, want %q", got, c.want)
			}
		})
	}
}

// TestPlanOfRandomSets checks what every plan must keep: each missing object in
// one range, whole; ranges in order and apart; and no more than are allowed.
func TestPlanOfRandomSets(t *testing.T) {
	tr, c := randomTree(7, 1500, 9<<20)
	_, res := mustWrite(t, tr, c, Options{Level: 1})
	x := res.Index
	r := rand.New(rand.NewPCG(7, 7))
	for range 200 {
		share := r.IntN(256)
		missing := func(d verity.Digest) bool { return int(d[0]) < share }
		o := PlanOptions{Gap: int64(1 + r.IntN(1<<18)), MaxRange: int64(1 + r.IntN(1<<22)), MaxRequests: 1 + r.IntN(100)}
		list := x.Plan(missing, o)
		if len(list) > o.MaxRequests {
			t.Fatalf("%+v gives %d requests", o, len(list))
		}
		var end int64
		next := 0
		for _, rg := range list {
			if rg.Offset < end {
				t.Fatalf("%+v: a range begins at %d, the one before ends at %d", o, rg.Offset, end)
			}
			end = rg.end()
			for _, i := range rg.Objects {
				for ; next < i; next++ {
					if missing(x.Objects[next].Digest) {
						t.Fatalf("%+v: object %d is in no range", o, next)
					}
				}
				first, last := x.Frames[x.Objects[i].Frame], x.Frames[x.last(i)]
				if first.Offset < rg.Offset || last.Offset+last.Length > rg.end() {
					t.Fatalf("%+v: object %d is not whole in its range", o, i)
				}
				next = i + 1
			}
		}
		for ; next < len(x.Objects); next++ {
			if missing(x.Objects[next].Digest) {
				t.Fatalf("%+v: object %d is in no range", o, next)
			}
		}
	}
}
