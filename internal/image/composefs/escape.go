package composefs

import (
	"bytes"
	"errors"
	"fmt"
)

// unescape undoes the escapes \\, \n, \r, \t and \xNN of a dump's field.
func unescape(b []byte) (string, error) {
	at := bytes.IndexByte(b, '\\')
	if at < 0 {
		return string(b), nil
	}
	out := append(make([]byte, 0, len(b)), b[:at]...)
	for i := at; i < len(b); i++ {
		c := b[i]
		if c == '\\' {
			i++
			if i == len(b) {
				return "", errors.New("a backslash ends the field")
			}
			switch c = b[i]; c {
			case '\\':
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			case 'x':
				if i+2 >= len(b) || hexValue[b[i+1]] < 0 || hexValue[b[i+2]] < 0 {
					return "", fmt.Errorf(`the escape %q does not have two hexadecimal digits`, b[i-1:min(i+3, len(b))])
				}
				c = byte(hexValue[b[i+1]]<<4 | hexValue[b[i+2]])
				i += 2
			default:
				return "", fmt.Errorf("the escape %q is unknown", b[i-1:i+1])
			}
		}
		out = append(out, c)
	}
	return string(out), nil
}

// unescapeOptional takes "-" for a field that is not set.
func unescapeOptional(b []byte) (s string, ok bool, err error) {
	if len(b) == 1 && b[0] == '-' {
		return "", false, nil
	}
	s, err = unescape(b)
	return s, err == nil, err
}

// hexValue is the value of a hexadecimal digit, or -1.
var hexValue = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i := range int8(10) {
		t['0'+i] = i
	}
	for i := range int8(6) {
		t['a'+i], t['A'+i] = 10+i, 10+i
	}
	return t
}()

// Where a text is to stand decides what is escaped in it.
const (
	escapeWord  = iota // a field of its own
	escapeXattr        // a part of KEY=VALUE
)

const hexDigits = "0123456789abcdef"

// appendEscaped writes s so that only visible ASCII characters are left.
func appendEscaped(b []byte, s string, where int) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\\':
			b = append(b, `\\`...)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c <= ' ', c >= 0x7f, c == '=' && where == escapeXattr:
			b = append(b, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c)
		}
	}
	return b
}

// appendOptional appends a space and a field that is "-" when it is not set.
func appendOptional(b []byte, s string) []byte {
	switch s {
	case "":
		return append(b, " -"...)
	case "-":
		return append(b, ` \x2d`...)
	}
	return appendEscaped(append(b, ' '), s, escapeWord)
}
