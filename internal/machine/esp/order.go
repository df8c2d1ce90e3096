package esp

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/release"
)

// Sort puts entries in the order of systemd-boot 257 (boot_entry_compare in
// src/boot/boot.c), those that it passes over last.
func Sort(entries []Entry) {
	slices.SortStableFunc(entries, compare)
}

// Next returns what the loader boots by default: the first entry that it does
// not pass over. That holds while nobody sets a default entry or a one-shot
// entry, which Ashlar never does.
func Next(entries []Entry) (Entry, bool) {
	sorted := slices.Clone(entries)
	Sort(sorted)
	if len(sorted) == 0 || sorted[0].Ignored != "" {
		return Entry{}, false
	}
	return sorted[0], true
}

// Newer reports whether the loader would try a before b if neither had a counter.
func Newer(a, b Entry) bool {
	return compare(a.WithCounter(NoCounter, 0), b.WithCounter(NoCounter, 0)) < 0
}

func compare(a, b Entry) int {
	if c := cmpBool(a.Ignored != "", b.Ignored != ""); c != 0 {
		return c
	}
	// An entry without a try left is sorted last, whatever else it has.
	if c := cmpBool(a.Left == 0, b.Left == 0); c != 0 {
		return c
	}
	if c := cmpBool(a.SortKey == "", b.SortKey == ""); c != 0 {
		return c
	}
	if a.SortKey != "" {
		// Machine ids come next in the loader, but boot files carry none.
		if c := strings.Compare(a.SortKey, b.SortKey); c != 0 {
			return c
		}
		if c := release.CompareVersions(b.SortVersion, a.SortVersion); c != 0 {
			return c
		}
	}
	// 257 takes the whole file name, counter included, for the id
	// (systemd issue 38813), in lower case.
	if c := release.CompareVersions(strings.ToLower(b.File), strings.ToLower(a.File)); c != 0 {
		return c
	}
	if a.Left < 0 || b.Left < 0 {
		return 0
	}
	if c := cmp.Compare(b.Left, a.Left); c != 0 {
		return c
	}
	return cmp.Compare(a.Done, b.Done)
}

// cmpBool sorts false before true.
func cmpBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
