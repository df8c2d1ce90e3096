package installer

import (
	"strings"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"
)

// maxTyped is the length of a field, in bytes: an SSH key of RSA has some 750.
const maxTyped = 2000

// field is one line that can be typed.
type field struct {
	label, hint string
	value       *string
	secret      bool
}

// form is fields, one of which takes the keys.
type form struct {
	fields []field
	at     int
}

func newForm(fields ...field) form { return form{fields: fields} }

// formEnd says what a key did to a form.
type formEnd int

const (
	formStay formEnd = iota
	formNext         // Enter on the last field
	formBack         // Esc
)

func (f *form) key(k tea.KeyPressMsg) formEnd {
	value := f.fields[f.at].value
	switch k.String() {
	case "esc":
		return formBack
	case "up", "shift+tab", "ctrl+p":
		f.at = max(f.at-1, 0)
	case "down", "tab", "ctrl+n":
		f.at = min(f.at+1, len(f.fields)-1)
	case "enter":
		if f.at == len(f.fields)-1 {
			return formNext
		}
		f.at++
	case "backspace", "ctrl+h":
		if _, n := utf8.DecodeLastRuneInString(*value); n > 0 {
			*value = (*value)[:len(*value)-n]
		}
	case "ctrl+u":
		*value = ""
	default:
		if text := k.Key().Text; len(*value)+len(text) <= maxTyped {
			*value += text
		}
	}
	return formStay
}

// lines draws the form, width columns wide.
func (f *form) lines(width int) (lines []string) {
	for i, field := range f.fields {
		mark, value := "  ", *field.value
		if field.secret {
			value = strings.Repeat("*", utf8.RuneCountInString(value))
		}
		if i == f.at {
			mark, value = "> ", value+"_"
		}
		lines = append(lines, mark+pad(field.label, 12)+lastOf(value, width-16))
		if field.hint != "" && i == f.at {
			lines = append(lines, strings.Repeat(" ", 14)+field.hint)
		}
	}
	return lines
}

func pad(s string, n int) string { return s + strings.Repeat(" ", max(n-len(s), 1)) }

// lastOf shows the end of what is too long: that is where one types.
func lastOf(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return "<" + string(r[len(r)-n+1:])
}
