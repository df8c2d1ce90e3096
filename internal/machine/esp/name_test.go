package esp

import (
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

func TestParseName(t *testing.T) {
	const d = "_0123456789ab"
	for file, want := range map[string]Entry{
		"ashlar_1.0.0" + d + ".efi":          {Version: "1.0.0", Left: NoCounter},
		"ashlar_1.0.0" + d + "+3.efi":        {Version: "1.0.0", Left: 3},
		"ashlar_1.0.0" + d + "+2-1.efi":      {Version: "1.0.0", Left: 2, Done: 1},
		"ashlar_1.0~rc1-2" + d + "+0-3.efi":  {Version: "1.0~rc1-2", Done: 3},
		"ashlar_2026.10.01" + d + "+0.efi":   {Version: "2026.10.01"},
		"ashlar_1" + d + "+2147483647-1.efi": {Version: "1", Left: 1<<31 - 1, Done: 1},
	} {
		e, ok := parseName(file)
		if !ok || e.Version != want.Version || e.Left != want.Left || e.Done != want.Done || e.Digest12 != d[1:] || e.File != file {
			t.Errorf("%q: %+v, %v", file, e, ok)
		}
	}
	for _, file := range []string{
		"", ".efi", "ashlar_.efi", "ashlar__.efi", "ashlar_1" + d, "ashlar_1" + d + ".conf",
		"ashlar_1" + d + ".EFI", "Ashlar_1" + d + ".efi", "ashlar_1" + strings.ToUpper(d) + ".efi",
		"ashlar_1" + d + "0.efi", "ashlar_1_1" + d + ".efi", "ashlar_v1" + d + ".efi", "ashlar_1 " + d + ".efi",
		"ashlar_1" + d + "+.efi", "ashlar_1" + d + "+03.efi", "ashlar_1" + d + "+3-0.efi", "ashlar_1" + d + "+3-.efi",
		"ashlar_1" + d + "+-1.efi", "ashlar_1" + d + "+2147483648.efi", "ashlar_1" + d + "+3+3.efi", "ashlar_1" + d + "+3-1-1.efi",
		"ashlar_1" + d + "+3.efi.ashlar-partial", "linux+3.efi", "ashlar_" + strings.Repeat("1", 100) + d + ".efi",
	} {
		if e, ok := parseName(file); ok {
			t.Errorf("%q counts as ours: %+v", file, e)
		}
	}
}

func TestSplitCounterAsTheLoader(t *testing.T) {
	for file, want := range map[string]Entry{
		"foo.efi":        {Name: "foo", Left: NoCounter},
		"foo+3.efi":      {Name: "foo", Left: 3},
		"foo+3-1.EFI":    {Name: "foo", Left: 3, Done: 1},
		"foo+1+2.efi":    {Name: "foo+1", Left: 2},
		"foo+x.efi":      {Name: "foo+x", Left: NoCounter},
		"foo+3-x.efi":    {Name: "foo+3-x", Left: NoCounter},
		"foo+3.conf":     {Name: "foo+3.conf", Left: NoCounter},
		"foo+0003.efi":   {Name: "foo", Left: 3},
		"foo+3.more.efi": {Name: "foo+3.more", Left: NoCounter},
	} {
		name, left, done := splitCounter(file)
		if name != want.Name || left != want.Left || done != want.Done {
			t.Errorf("%q: %q %d %d, want %+v", file, name, left, done, want)
		}
	}
}

func TestEntryName(t *testing.T) {
	name, err := EntryName("1.0", verity.Digest{0xab, 0xcd})
	if err != nil || name != "ashlar_1.0_abcd00000000" {
		t.Errorf("%q, %v", name, err)
	}
	for _, version := range []string{"", "1_0", "1+3", "1/2", "../1"} {
		if name, err := EntryName(version, verity.Digest{1}); err == nil {
			t.Errorf("version %q gives %q", version, name)
		}
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("ashlar_1.0.0_0123456789ab+2-1.efi")
	f.Add("ashlar_1.0.0_0123456789ab.ashlar-partial")
	f.Add("foo+3-1.EFI")
	f.Fuzz(func(t *testing.T, file string) {
		e, ours := parseName(file)
		name, left, done := splitCounter(file)
		if !ours {
			return
		}
		// We and the loader read the same counter, and the name has one form.
		if e.Left != left || e.Done != done || e.Name != name || e.WithCounter(left, done).File != file {
			t.Fatalf("%q: %+v, the loader reads %q %d %d", file, e, name, left, done)
		}
		if isPartial(file) || strings.ContainsAny(file, "/\x00") {
			t.Fatalf("%q counts as ours", file)
		}
	})
}
