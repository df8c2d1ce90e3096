package history

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// oneLine makes text fit for terminals and tables: one line of at most limit
// bytes, nothing that moves a cursor.
func oneLine(s string, limit int) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "?"), func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	}), " ")
	return clip(s, limit)
}

// clip cuts s to at most limit bytes, between two characters.
func clip(s string, limit int) string {
	const more = "…"
	if len(s) <= limit {
		return s
	}
	s = s[:limit-len(more)]
	for len(s) > 0 {
		if r, n := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || n != 1 {
			break
		}
		s = s[:len(s)-1]
	}
	return s + more
}

// Lines makes the last lines of a program's output or of a journal fit to be
// kept and shown.
func Lines(text string) []string {
	list := []string{}
	for _, line := range strings.Split(strings.TrimRight(text, " \t\r\n"), "\n") {
		if line = plain(line); line != "" || len(list) > 0 {
			list = append(list, line)
		}
	}
	return list[max(0, len(list)-maxLines):]
}

// plain is oneLine that keeps the spaces between words.
func plain(line string) string {
	line = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(line, "?"))
	return clip(strings.TrimRight(line, " "), maxLineText)
}
