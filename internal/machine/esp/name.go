package esp

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

const (
	prefix = "ashlar_"
	suffix = ".efi"
	// partial ends the name of a boot file that is being written. The loader
	// looks at *.efi only.
	partial = ".ashlar-partial"

	digestLen = 12

	// NoCounter is the Left of an entry that is not counted: its boot was good.
	NoCounter = -1
	// Tries is how many boots a new entry gets to prove itself.
	Tries = 3
)

// Entry is one boot file in EFI/Linux.
type Entry struct {
	File     string `json:"file"` // its name in EFI/Linux, with the counter
	Name     string `json:"name"` // "ashlar_1.0.0_abcdef012345": the file's name up to the counter
	Version  string `json:"version"`
	Digest12 string `json:"digest12"`
	Left     int    `json:"left"` // NoCounter without a counter
	Done     int    `json:"done"`
	Foreign  bool   `json:"foreign"`           // not ours: Version and Digest12 are what the loader reads, or empty
	Ignored  string `json:"ignored,omitempty"` // why the loader passes the file over

	// What the loader sorts by, from the boot file's os-release.
	SortKey     string `json:"sort_key"`
	SortVersion string `json:"sort_version"`

	// Image is the digest on the boot file's command line; zero when it has none.
	Image verity.Digest `json:"image"`
}

// Counted reports whether the loader still counts this entry.
func (e Entry) Counted() bool { return e.Left != NoCounter }

// Exhausted reports whether the entry has no try left.
func (e Entry) Exhausted() bool { return e.Left == 0 }

// WithCounter returns e under the name it would have with that counter;
// left NoCounter removes it.
func (e Entry) WithCounter(left, done int) Entry {
	e.Left, e.Done = left, done
	if left == NoCounter {
		e.Done = 0
	}
	e.File = e.Name + counter(e.Left, e.Done) + suffix
	return e
}

// EntryName is the name, without counter and suffix, of the boot file of an image.
func EntryName(version string, d verity.Digest) (string, error) {
	if err := release.CheckVersion(version); err != nil {
		return "", err
	}
	return prefix + version + "_" + d.String()[:digestLen], nil
}

// parseName reads the name of one of our boot files, exactly as this package
// and the loader write it: anything else is not ours.
func parseName(file string) (Entry, bool) {
	name, left, done := splitCounter(file)
	version, digest, ok := splitName(name)
	if !ok {
		return Entry{}, false
	}
	e := Entry{Name: name, Version: version, Digest12: digest}.WithCounter(left, done)
	// One file has one name: no zeros in front, no "-0", no other case.
	return e, e.File == file
}

// splitName takes "ashlar_<version>_<digest12>" apart.
func splitName(name string) (version, digest string, ok bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return "", "", false
	}
	i := strings.LastIndexByte(rest, '_')
	if i < 0 {
		return "", "", false
	}
	version, digest = rest[:i], rest[i+1:]
	if release.CheckVersion(version) != nil || len(digest) != digestLen {
		return "", "", false
	}
	for i := range len(digest) {
		if c := digest[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", "", false
		}
	}
	return version, digest, true
}

// splitCounter takes any loader entry's file name apart as systemd-boot does:
// the counter stands behind the last "+" and directly before the suffix, or
// there is none.
func splitCounter(file string) (name string, left, done int) {
	stem := file[:max(len(file)-len(suffix), 0)]
	if !strings.EqualFold(file[len(stem):], suffix) {
		return file, NoCounter, 0
	}
	i := strings.LastIndexByte(stem, '+')
	if i < 0 {
		return stem, NoCounter, 0
	}
	l, d, hasDone := strings.Cut(stem[i+1:], "-")
	left, ok := parseCount(l)
	if ok && hasDone {
		done, ok = parseCount(d)
	}
	if !ok {
		return stem, NoCounter, 0
	}
	return stem[:i], left, done
}

// parseCount reads a decimal number that fits the loader's int.
func parseCount(s string) (int, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > math.MaxInt32 {
		return 0, false
	}
	return int(n), true
}

func counter(left, done int) string {
	switch {
	case left == NoCounter:
		return ""
	case done == 0:
		return fmt.Sprintf("+%d", left)
	}
	return fmt.Sprintf("+%d-%d", left, done)
}

// isPartial recognises the temporary names of Commit, and nothing else.
func isPartial(file string) bool {
	name, ok := strings.CutSuffix(file, partial)
	if !ok {
		return false
	}
	_, _, ok = splitName(name)
	return ok
}
