package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPublishResults: parts that were not measured stay, byte for byte, and half a part
// does not take the place of a whole one.
func TestPublishResults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "RESULTS.md")
	part := func(title string, complete bool, x float64) *report {
		r := &report{title: title, complete: complete, machine: "a machine"}
		r.ratio("takes", x, atMost(1.5))
		r.add(work{name: "work", ours: side{{wall: time.Second}}})
		return r
	}
	read := func() string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if err := publishResults(path, []*report{part(images, true, 1), part(starts, true, 1)}); err != nil {
		t.Fatal(err)
	}
	before := read()
	err := publishResults(path, []*report{part(media, true, 2)})
	if err == nil || !strings.Contains(err.Error(), "takes: 2.00 ×, the target is ≤ 1.5 ×") {
		t.Errorf("a missed target gives %v", err)
	}
	with := read()
	at := strings.Index(with, partHead+media)
	if at < 0 || strings.Index(with, partHead+images) > at || strings.Index(with, partHead+starts) < at {
		t.Errorf("the parts are not in their order:\n%s", with)
	}
	if err := publishResults(path, []*report{part(media, false, 1)}); err == nil || read() != with {
		t.Errorf("half a part: %v", err)
	}
	end := at + len(partHead) + strings.Index(with[at+len(partHead):], partHead)
	if with[:at]+with[end:] != before {
		t.Errorf("a part that was not measured has changed:\n%s", with)
	}
}

// TestRatio: it is of pairs, and one that was disturbed does not count.
func TestRatio(t *testing.T) {
	wall := func(list ...time.Duration) (s side) {
		for _, w := range list {
			s = append(s, sample{wall: w})
		}
		return s
	}
	if got := ratio(wall(2, 40, 300), wall(1, 1, 100)); got != 3 {
		t.Errorf("the ratio is %v", got)
	}
}
