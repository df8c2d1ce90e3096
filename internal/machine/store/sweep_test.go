package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

func TestSweep(t *testing.T) {
	s := newStore(t)
	old := putImage(t, s, map[string]string{"a": content("old"), "b": content("shared")})
	kept := putImage(t, s, map[string]string{"a": content("new"), "b": content("shared")})
	orphan := putObject(t, s, content("orphan"))
	foreign := []string{"objects/readme", "objects/zz", "objects/ab/x", "images/notes.txt"}
	for _, name := range foreign {
		path := filepath.Join(s.Dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("mine"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	p, err := s.PlanSweep(t.Context(), []verity.Digest{kept})
	if err != nil {
		t.Fatal(err)
	}
	want := []verity.Digest{verity.SumBytes([]byte(content("old"))), orphan}
	slices.SortFunc(want, func(a, b verity.Digest) int { return bytes.Compare(a[:], b[:]) })
	if !slices.Equal(p.Images, []verity.Digest{old}) || !slices.Equal(p.Objects, want) || p.Kept != 2 || p.Bytes == 0 {
		t.Errorf("the plan is %+v", p)
	}
	if !s.HasImage(old) || !s.HasObject(orphan) {
		t.Error("planning removed something")
	}
	if err := s.Sweep(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if s.HasImage(old) || s.HasObject(orphan) || !s.HasImage(kept) {
		t.Error("the sweep did not do as planned")
	}
	r, err := s.Verify(t.Context(), []verity.Digest{kept}, nil)
	if err != nil || len(r.Damaged) != 0 {
		t.Errorf("the kept image after the sweep: %+v, %v", r, err)
	}
	for _, name := range foreign {
		if _, err := os.Stat(filepath.Join(s.Dir, name)); err != nil {
			t.Errorf("a file of somebody else: %v", err)
		}
	}
	if p, err := s.PlanSweep(t.Context(), []verity.Digest{kept}); err != nil || len(p.Images)+len(p.Objects) != 0 {
		t.Errorf("a second plan is %+v, %v", p, err)
	}
}

func TestPlanSweepRefuses(t *testing.T) {
	s := newStore(t)
	kept := putImage(t, s, map[string]string{"a": content("a")})
	if _, err := s.PlanSweep(t.Context(), nil); err == nil {
		t.Error("planned to empty the store")
	}
	if _, err := s.PlanSweep(t.Context(), []verity.Digest{kept, {9}}); err == nil {
		t.Error("planned although an image in use is missing")
	}
	if err := os.Chmod(s.ImagePath(kept), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.ImagePath(kept), []byte("no image"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PlanSweep(t.Context(), []verity.Digest{kept}); err == nil {
		t.Error("planned although an image in use is damaged")
	}
}

func TestVerifyNamesWhatIsWrong(t *testing.T) {
	s := newStore(t)
	one := putImage(t, s, map[string]string{"a": content("a"), "b": content("b"), "c": content("a")})
	two := putImage(t, s, map[string]string{"x": content("a"), "y": content("y")})
	three := putImage(t, s, map[string]string{"z": content("z")})
	bad := verity.SumBytes([]byte(content("a")))
	gone := verity.SumBytes([]byte(content("y")))
	flip(t, s.ObjectPath(bad))
	flip(t, s.ImagePath(three))
	if err := os.Remove(s.ObjectPath(gone)); err != nil {
		t.Fatal(err)
	}
	r, err := s.Verify(t.Context(), []verity.Digest{one, two, three, one}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Images != 3 || r.Objects != 3 || len(r.Damaged) != 3 {
		t.Fatalf("the report is %+v", r)
	}
	byDigest := make(map[verity.Digest]Damage)
	for _, d := range r.Damaged {
		byDigest[d.Digest] = d
	}
	if d := byDigest[three]; d.Kind != "image" || !strings.HasPrefix(d.Reason, "has the digest ") {
		t.Errorf("of the image it says %+v", d)
	}
	if d := byDigest[gone]; d.Reason != "missing" || len(d.UsedBy) != 1 || !slices.Equal(d.UsedBy[0].Paths, []string{"/y"}) {
		t.Errorf("of the missing object it says %+v", d)
	}
	paths := map[verity.Digest][]string{}
	for _, u := range byDigest[bad].UsedBy {
		paths[u.Image] = u.Paths
	}
	if !slices.Equal(paths[one], []string{"/a", "/c"}) || !slices.Equal(paths[two], []string{"/x"}) {
		t.Errorf("of the damaged object it says %+v", byDigest[bad])
	}
}

// flip changes one bit in the middle of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, b, 0o600)); err != nil {
		t.Fatal(err)
	}
}
