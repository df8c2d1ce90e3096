package release

import "strings"

// CompareVersions orders two versions as the UAPI Version Format Specification
// does (https://uapi-group.org/specifications/specs/version_format_specification/)
// and therefore as systemd-boot sorts boot entries: the result is negative
// when a is older than b, 0 when they are equal, positive when a is newer.
//
// A machine must never believe that an update is newer than what it runs while
// the loader believes the opposite, so this is that order and no other. Three
// of its rules surprise people who think in semantic versions: "1.0~rc1" is
// older than "1.0", but "1.0-rc1" is newer; "1.0.0" is newer than "1.0"; and
// characters that are none of letters, digits and "~-^." are skipped.
func CompareVersions(a, b string) int {
	for {
		a, b = skipInvalid(a), skipInvalid(b)

		// "~" marks a pre-release: older than anything, even than the end.
		if at, bt := first(a) == '~', first(b) == '~'; at || bt {
			if at != bt {
				return older(at)
			}
			a, b = a[1:], b[1:]
		}
		if a == "" || b == "" {
			return compareInts(min(len(a), 1), min(len(b), 1))
		}
		// The separators, weakest first: whoever has one here is older.
		for _, separator := range []byte("-^.") {
			if as, bs := first(a) == separator, first(b) == separator; as || bs {
				if as != bs {
					return older(as)
				}
				a, b = a[1:], b[1:]
			}
		}
		var c int
		if isDigit(first(a)) || isDigit(first(b)) {
			c, a, b = compareNumbers(a, b)
		} else {
			c, a, b = compareLetters(a, b)
		}
		if c != 0 {
			return c
		}
	}
}

// compareNumbers compares the leading digits of a and b as numbers of any
// length, and returns what follows. No digits at all is older than a zero.
func compareNumbers(a, b string) (c int, restA, restB string) {
	na, nb := prefixLen(a, isDigit), prefixLen(b, isDigit)
	if na == 0 || nb == 0 {
		return compareInts(na, nb), a, b
	}
	da, db := strings.TrimLeft(a[:na], "0"), strings.TrimLeft(b[:nb], "0")
	if len(da) != len(db) {
		return compareInts(len(da), len(db)), a, b
	}
	return strings.Compare(da, db), a[na:], b[nb:]
}

// compareLetters compares the leading ASCII letters of a and b bytewise (so
// capitals are older), and returns what follows.
func compareLetters(a, b string) (c int, restA, restB string) {
	na, nb := prefixLen(a, isLetter), prefixLen(b, isLetter)
	return strings.Compare(a[:na], b[:nb]), a[na:], b[nb:]
}

func older(a bool) int {
	if a {
		return -1
	}
	return 1
}

func compareInts(a, b int) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// first returns the first byte of s, or 0 at its end. A zero byte inside s
// cannot be met: skipInvalid has dropped it.
func first(s string) byte {
	if s == "" {
		return 0
	}
	return s[0]
}

func prefixLen(s string, ok func(byte) bool) int {
	n := 0
	for n < len(s) && ok(s[n]) {
		n++
	}
	return n
}

func skipInvalid(s string) string {
	return s[prefixLen(s, func(c byte) bool { return !isDigit(c) && !isLetter(c) && strings.IndexByte("~-^.", c) < 0 }):]
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
