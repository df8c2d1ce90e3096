package history

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

var image = verity.Digest{1, 2, 3}

func event(why string) Event {
	return Event{Time: "2026-01-02T03:04:05Z", Kind: Staged, Image: image, ID: "server-1.0.0", By: "alice", Why: why}
}

func appendAll(t *testing.T, dir string, whys ...string) {
	t.Helper()
	for _, why := range whys {
		if err := Append(dir, event(why)); err != nil {
			t.Fatal(err)
		}
	}
}

func whys(t *testing.T, dir string) (list []string) {
	t.Helper()
	events, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		list = append(list, e.Why)
	}
	return list
}

func TestAppendAndRead(t *testing.T) {
	dir := t.TempDir()
	if got := whys(t, dir); got != nil {
		t.Errorf("no history is %q", got)
	}
	appendAll(t, dir, "one", "two\x1b[2J\nthree")
	events, err := Read(dir)
	if err != nil || len(events) != 2 || events[0] != event("one") || events[1].Why != "two [2J three" {
		t.Errorf("read %+v, %v", events, err)
	}
	if err := Append(dir, Event{Kind: Booted}); err != nil {
		t.Fatal(err)
	}
	events, _ = Read(dir)
	if at, err := time.Parse(time.RFC3339, events[2].Time); err != nil || time.Since(at) > time.Hour {
		t.Errorf("the time is %q", events[2].Time)
	}
}

// TestCutAnywhere cuts the file at every byte: what was whole is read, and the
// next event too.
func TestCutAnywhere(t *testing.T) {
	dir := t.TempDir()
	appendAll(t, dir, "one", "two")
	path := filepath.Join(dir, logFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := strings.Index(string(whole), "\n")
	for n := range whole {
		if err := os.WriteFile(path, whole[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		appendAll(t, dir, "next")
		want := []string{"next"}
		if n >= first { // a whole line without its end is one all the same
			want = []string{"one", "next"}
		}
		if n == len(whole)-1 {
			want = []string{"one", "two", "next"}
		}
		if got := whys(t, dir); !slices.Equal(got, want) {
			t.Fatalf("cut at %d of %d: %q, want %q", n, len(whole), got, want)
		}
	}
}

func TestRotate(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("x", 900)
	n := 0
	for ; ; n++ {
		appendAll(t, dir, fmt.Sprint(n, " ", long))
		if st, err := os.Stat(filepath.Join(dir, logFile)); err != nil || st.Size() >= maxLog {
			break
		}
		if err := Rotate(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, oldFile)); err == nil {
			t.Fatal("rotated too early")
		}
	}
	for range 2 {
		if err := Rotate(dir); err != nil {
			t.Fatal(err)
		}
	}
	appendAll(t, dir, "last")
	got := whys(t, dir)
	if len(got) != n+2 || !strings.HasPrefix(got[0], "0 ") || got[n+1] != "last" {
		t.Errorf("%d events, the last is %q", len(got), got[len(got)-1])
	}
}

func TestFailure(t *testing.T) {
	dir := t.TempDir()
	if f := ReadFailure(dir); f != nil {
		t.Errorf("no failure is %+v", f)
	}
	var lines []string
	for i := range 100 {
		lines = append(lines, fmt.Sprintf("%d\t\x1b[31m%s", i, strings.Repeat("ä", 400)))
	}
	want := Failure{Boot: "b", ID: "server-2.0.0", Stage: Checking, Check: "web.service", Reason: "it\nfailed", Passed: 3, Lines: lines}
	if err := WriteFailure(dir, want); err != nil {
		t.Fatal(err)
	}
	f := ReadFailure(dir)
	if f == nil || f.ID != want.ID || f.Stage != Checking || f.Check != want.Check || f.Reason != "it failed" || f.Passed != 3 {
		t.Fatalf("read %+v", f)
	}
	if len(f.Lines) != maxLines || !strings.HasPrefix(f.Lines[0], "60 [31mä") {
		t.Errorf("%d lines, the first %q", len(f.Lines), f.Lines[0])
	}
	for _, line := range f.Lines {
		if len(line) > maxLineText || !utf8.ValidString(line) {
			t.Errorf("a line of %d bytes: %q", len(line), line)
		}
	}
	if f.Time == "" {
		t.Error("it has no time")
	}
	for range 2 {
		if err := ForgetFailure(dir); err != nil {
			t.Fatal(err)
		}
	}
	if ReadFailure(dir) != nil {
		t.Error("it was not forgotten")
	}
}

// TestFailureInWords: a file that somebody else wrote is a reason.
func TestFailureInWords(t *testing.T) {
	dir := t.TempDir()
	for text, reason := range map[string]string{
		"the disk\nis gone\n":          "the disk is gone",
		`{"schema":2,"stage":"later"}`: `{"schema":2,"stage":"later"}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, FailureFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if f := ReadFailure(dir); f == nil || f.Reason != reason || f.Stage != Initramfs {
			t.Errorf("%q is %+v", text, f)
		}
	}
}

func TestFurther(t *testing.T) {
	order := []*Failure{nil, {Stage: Initramfs}, {Stage: Unsteady}, {Stage: Starting}, {Stage: Checking}, {Stage: Checking, Passed: 1}}
	for i, a := range order {
		for j, b := range order {
			got := Further(a, b)
			if (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%+v and %+v: %d", a, b, got)
			}
		}
	}
}

func TestTally(t *testing.T) {
	dir := t.TempDir()
	begin := func(d verity.Digest) bool {
		tally := ReadTally(dir)
		suspicious := tally.Begin(d, "b", nil)
		if err := tally.Write(dir); err != nil {
			t.Fatal(err)
		}
		return suspicious
	}
	for n := range 2 * (MaxUnclean + 1) {
		// Boots 4 and 7 find three before them that ended badly.
		if got := begin(image); got != (n == 3 || n == 6) {
			t.Errorf("boot %d: suspicious is %t: %+v", n+1, got, ReadTally(dir))
		}
	}
	if tally := ReadTally(dir); !tally.Suspect || tally.Image != image || tally.Boot != "b" {
		t.Errorf("the tally is %+v", tally)
	}
	tally := ReadTally(dir)
	tally.EndWell()
	if err := tally.Write(dir); err != nil {
		t.Fatal(err)
	}
	for range MaxUnclean {
		if begin(image) {
			t.Error("suspicious after a boot that ended well")
		}
	}
	if begin(verity.Digest{9}) || ReadTally(dir).Unclean != 1 {
		t.Errorf("another deployment inherits the suspicion: %+v", ReadTally(dir))
	}
	// What did not stay up is suspected again, whatever was booted in between.
	tally = Tally{}
	if tally.Begin(image, "", &Failure{Stage: Unsteady}) || !tally.Suspect {
		t.Errorf("the tally is %+v", tally)
	}
	// Damage is no suspicion.
	if err := os.WriteFile(filepath.Join(dir, tallyFile), []byte(`{"schema":1,"unclean":-1}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if tally := ReadTally(dir); tally != (Tally{}) {
		t.Errorf("a damaged tally is %+v", tally)
	}
}

func FuzzLog(f *testing.F) {
	f.Add([]byte(`{"time":"2026-01-02T03:04:05Z","event":"staged","image":"","id":"x","by":"y","why":"z"}` + "\n{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, e := range decodeLog(b) {
			for _, s := range []string{string(e.Kind), e.ID, e.By, e.Why} {
				if len(s) > maxWhy || strings.ContainsAny(s, "\n\x1b") {
					t.Errorf("read %q", s)
				}
			}
		}
	})
}

func FuzzFailure(f *testing.F) {
	f.Add([]byte(`{"schema":1,"stage":"checking","lines":["a\u001b"]}`))
	f.Add([]byte("words"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got := decodeFailure(b)
		if stages[got.Stage] == 0 || len(got.Lines) > maxLines || strings.ContainsAny(strings.Join(got.Lines, "")+got.Reason+got.Check, "\n\x1b") {
			t.Errorf("read %+v", got)
		}
	})
}

func FuzzTally(f *testing.F) {
	f.Add([]byte(`{"schema":1,"unclean":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if tally, err := decodeTally(b); err == nil {
			tally.Begin(image, "", nil)
			if tally.Unclean < 1 || tally.Unclean > MaxUnclean {
				t.Errorf("%q becomes %+v", b, tally)
			}
		}
	})
}
