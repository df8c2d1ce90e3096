package release

import (
	"fmt"
	"strings"
)

// Names and versions end up in many places, and each narrows what they may be:
// IMAGE_ID and IMAGE_VERSION of os-release(5), file names on a FAT partition
// (where "_" and "+" have a meaning for us and for the loader), and tags in a
// registry. What is allowed here is allowed everywhere.
const (
	maxNameLen    = 63
	maxVersionLen = 64
)

// CheckName says what is wrong with the name of an image, if anything: it is
// lower-case letters, digits, "." and "-", and begins and ends with a letter
// or a digit.
func CheckName(name string) error { return checkWord("name", name, maxNameLen, isNameChar) }

// CheckChannel says what is wrong with the name of a channel, if anything. It
// begins with a letter, so that it is never taken for a version.
func CheckChannel(channel string) error {
	if err := checkWord("channel", channel, maxNameLen, isNameChar); err != nil {
		return err
	}
	if isDigit(channel[0]) {
		return fmt.Errorf("channel %q begins with a digit, as only versions do", channel)
	}
	return nil
}

// CheckVersion says what is wrong with a version, if anything: it is letters,
// digits, ".", "-" and "~", begins with a digit, and ends with a letter or a
// digit.
func CheckVersion(version string) error {
	if err := checkWord("version", version, maxVersionLen, isVersionChar); err != nil {
		return err
	}
	if !isDigit(version[0]) {
		return fmt.Errorf("version %q does not begin with a digit", version)
	}
	return nil
}

// Tag is the registry tag of a version: "~" is not allowed in a tag, and "_"
// is not allowed in a version, so the one stands for the other.
func Tag(version string) string { return strings.ReplaceAll(version, "~", "_") }

func isNameChar(c byte) bool    { return isDigit(c) || 'a' <= c && c <= 'z' || c == '.' || c == '-' }
func isVersionChar(c byte) bool { return isDigit(c) || isLetter(c) || c == '.' || c == '-' || c == '~' }

func checkWord(what, s string, limit int, ok func(byte) bool) error {
	if s == "" {
		return fmt.Errorf("the %s is empty", what)
	}
	if len(s) > limit {
		return fmt.Errorf("%s %.20q… has %d characters, at most %d are allowed", what, s, len(s), limit)
	}
	for i := range len(s) {
		if !ok(s[i]) {
			return fmt.Errorf("%s %q contains %q, which is not allowed there", what, s, s[i])
		}
	}
	for _, c := range []byte{s[0], s[len(s)-1]} {
		if !isDigit(c) && !isLetter(c) {
			return fmt.Errorf("%s %q begins or ends with %q, not with a letter or a digit", what, s, c)
		}
	}
	return nil
}
