package recipe

import (
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Error is a mistake on one line of a recipe.
type Error struct {
	File string
	Line int    // from 1
	Text string // the line itself
	Msg  string
}

func (e *Error) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg)
	}
	return fmt.Sprintf("%s:%d: %s\n  %d | %s", e.File, e.Line, e.Msg, e.Line, e.Text)
}

// source is one recipe file and the line of every key in it, so that a value
// found wrong after decoding can still be shown where it stands.
type source struct {
	path  string
	data  []byte
	lines map[string]int // "files[2].mode" → line
}

func newSource(path string, data []byte) *source {
	return &source{path: path, data: data}
}

// errorAt is an error about a line.
func (s *source) errorAt(line int, format string, args ...any) error {
	e := &Error{File: s.path, Line: max(line, 1), Msg: fmt.Sprintf(format, args...)}
	if all := strings.Split(string(s.data), "\n"); e.Line <= len(all) {
		e.Text = strings.TrimRight(all[e.Line-1], "\r ")
	}
	return e
}

// errorf is an error about the value at key, such as "files[2].mode"; where
// the key is not in the file, about the nearest table that is.
func (s *source) errorf(key, format string, args ...any) error {
	if s.lines == nil {
		s.index()
	}
	for k := key; ; {
		if line, ok := s.lines[k]; ok {
			return s.errorAt(line, format, args...)
		}
		i := strings.LastIndexAny(k, ".[")
		if i < 0 {
			return s.errorAt(1, format, args...)
		}
		k = k[:i]
	}
}

// index finds the line of every key, with the parser that the decoder uses.
func (s *source) index() {
	s.lines = make(map[string]int)
	counts := make(map[string]int) // elements of arrays of tables so far
	table := ""
	var p unstable.Parser
	p.Reset(s.data)
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table:
			name, line := keyOf(&p, e, "")
			table = lastElement(name, counts)
			s.lines[table] = line
		case unstable.ArrayTable:
			name, line := keyOf(&p, e, "")
			table = fmt.Sprintf("%s[%d]", name, counts[name])
			counts[name]++
			s.lines[table] = line
		case unstable.KeyValue:
			s.indexKeyValue(&p, e, table)
		}
	}
}

// lastElement makes "files.x" after two [[files]] into "files[1].x".
func lastElement(name string, counts map[string]int) string {
	first, rest, ok := strings.Cut(name, ".")
	if n := counts[first]; n > 0 && ok {
		return fmt.Sprintf("%s[%d].%s", first, n-1, rest)
	}
	return name
}

func (s *source) indexKeyValue(p *unstable.Parser, e *unstable.Node, table string) {
	key, line := keyOf(p, e, table)
	s.lines[key] = line
	s.indexValue(p, e.Value(), key)
}

func (s *source) indexValue(p *unstable.Parser, v *unstable.Node, key string) {
	switch v.Kind {
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			s.indexKeyValue(p, it.Node(), key)
		}
	case unstable.Array:
		i := 0
		for it := v.Children(); it.Next(); i++ {
			element := fmt.Sprintf("%s[%d]", key, i)
			if n := it.Node(); n.Raw.Length > 0 {
				s.lines[element] = p.Shape(n.Raw).Start.Line
			}
			s.indexValue(p, it.Node(), element)
		}
	}
}

// keyOf joins a node's dotted key below table and gives its line.
func keyOf(p *unstable.Parser, e *unstable.Node, table string) (key string, line int) {
	key = table
	for it := e.Key(); it.Next(); {
		n := it.Node()
		if key != "" {
			key += "."
		}
		key += string(n.Data)
		line = p.Shape(n.Raw).Start.Line
	}
	return key, line
}
