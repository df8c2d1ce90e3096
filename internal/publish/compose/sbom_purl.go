package compose

import (
	"fmt"
	"strings"
)

// packageURL names a Debian package as vulnerability databases do (package-url
// specification, type "deb"). Qualifiers are sorted; "upstream" is the source
// package, by which Debian's security tracker works.
func packageURL(p deb, id, distro string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "pkg:deb/%s/%s@%s?arch=%s", escapePURL(id), escapePURL(p.Name), escapePURL(p.Version), escapePURL(p.Architecture))
	if distro != "" {
		b.WriteString("&distro=" + escapePURL(distro))
	}
	switch {
	case p.SourceVersion != p.Version:
		b.WriteString("&upstream=" + escapePURL(p.Source+"@"+p.SourceVersion))
	case p.Source != p.Name:
		b.WriteString("&upstream=" + escapePURL(p.Source))
	}
	return b.String()
}

// escapePURL escapes all but what the specification says stays as it is.
func escapePURL(s string) string { return escape(s, ".-_~:") }

// escape writes bytes that are neither letters, digits nor in keep as %XX.
func escape(s, keep string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte(keep, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
