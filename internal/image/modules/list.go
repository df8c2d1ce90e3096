package modules

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
)

// ListPath is where the list is in an initramfs; Dir is where the modules are,
// each as NAME.ko, uncompressed.
const (
	ListPath = "/modules/list"
	Dir      = "/modules"
)

// Limits on a list.
const (
	maxList    = 4 << 20 // bytes
	maxLine    = 16 << 10
	maxModules = 4096
	maxName    = 64
)

// When says when a module is to be loaded.
type When string

const (
	Always  When = "always"  // at every boot: nothing announces that it is needed
	Named   When = "named"   // when asked for by name, such as the root's file system
	Matched When = "matched" // for a device with one of its aliases, or as a dependency
)

// Module is one kernel module.
type Module struct {
	Name  string // with underscores, as the kernel prints it
	When  When
	Needs []Need // in the order in which to load them
}

// Need is a module that has to be loaded before another.
type Need struct {
	Name string
	Soft bool // a failure to load it does not matter
}

// Alias maps devices to a module: a glob over modalias strings.
type Alias struct {
	Module  string
	Pattern string
}

// List is what an initramfs carries.
type List struct {
	Kernel  string // version
	Modules []Module
	Aliases []Alias
}

// Write writes the list in its text form.
func (l *List) Write(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "ashlar-modules 1 %s\n", l.Kernel)
	for _, m := range l.Modules {
		fmt.Fprintf(&b, "module %s %s", m.Name, m.When)
		for _, n := range m.Needs {
			b.WriteByte(' ')
			if n.Soft {
				b.WriteByte('?')
			}
			b.WriteString(n.Name)
		}
		b.WriteByte('\n')
	}
	for _, a := range l.Aliases {
		fmt.Fprintf(&b, "alias %s %s\n", a.Module, a.Pattern)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// Parse reads what Write writes. Every module that a line refers to has to be
// in the list.
func Parse(r io.Reader) (*List, error) {
	lines := bufio.NewScanner(io.LimitReader(r, maxList))
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	l := &List{}
	for n := 1; lines.Scan(); n++ {
		if err := l.parseLine(n, strings.Fields(lines.Text())); err != nil {
			return nil, fmt.Errorf("module list, line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the module list: %w", err)
	}
	if l.Kernel == "" {
		return nil, fmt.Errorf("the module list is empty")
	}
	return l, l.Check()
}

func (l *List) parseLine(n int, f []string) error {
	switch {
	case n == 1:
		if len(f) != 3 || f[0] != "ashlar-modules" || f[1] != "1" {
			return fmt.Errorf("it begins with %.40q, want \"ashlar-modules 1 VERSION\"", strings.Join(f, " "))
		}
		l.Kernel = f[2]
	case len(f) >= 3 && f[0] == "module":
		m := Module{Name: f[1], When: When(f[2])}
		if m.When != Always && m.When != Named && m.When != Matched {
			return fmt.Errorf("module %q is to be loaded %q, want always, named or matched", m.Name, m.When)
		}
		for _, need := range f[3:] {
			name, soft := strings.CutPrefix(need, "?")
			m.Needs = append(m.Needs, Need{name, soft})
		}
		if len(l.Modules) == maxModules {
			return fmt.Errorf("there are more than %d modules", maxModules)
		}
		l.Modules = append(l.Modules, m)
	case len(f) == 3 && f[0] == "alias":
		l.Aliases = append(l.Aliases, Alias{f[1], f[2]})
	default:
		return fmt.Errorf("%.40q is neither a module nor an alias", strings.Join(f, " "))
	}
	return nil
}

// Check makes sure that names are names, that they refer to modules of the
// list, and that no module needs itself through others.
func (l *List) Check() error {
	known := make(map[string]bool, len(l.Modules))
	for _, m := range l.Modules {
		if !validName(m.Name) {
			return fmt.Errorf("module list: %.80q is no module name", m.Name)
		}
		if known[m.Name] {
			return fmt.Errorf("module list: module %q is there twice", m.Name)
		}
		known[m.Name] = true
	}
	for _, m := range l.Modules {
		for _, n := range m.Needs {
			if !known[n.Name] {
				return fmt.Errorf("module list: module %q needs %.80q, which is not in the list", m.Name, n.Name)
			}
		}
	}
	for _, a := range l.Aliases {
		if !known[a.Module] {
			return fmt.Errorf("module list: alias %.80q is for %.80q, which is not in the list", a.Pattern, a.Module)
		}
	}
	return l.checkCycles()
}

// checkCycles takes away modules that need nothing which is left, until none
// is; what remains then needs itself.
func (l *List) checkCycles() error {
	open := make(map[string]int, len(l.Modules)) // needs that are left
	neededBy := make(map[string][]string)
	var free []string
	for _, m := range l.Modules {
		open[m.Name] = len(m.Needs)
		for _, n := range m.Needs {
			neededBy[n.Name] = append(neededBy[n.Name], m.Name)
		}
		if len(m.Needs) == 0 {
			free = append(free, m.Name)
		}
	}
	done := 0
	for ; len(free) > 0; done++ {
		name := free[len(free)-1]
		free = free[:len(free)-1]
		for _, m := range neededBy[name] {
			if open[m]--; open[m] == 0 {
				free = append(free, m)
			}
		}
	}
	if done == len(l.Modules) {
		return nil
	}
	for _, m := range l.Modules {
		if open[m.Name] > 0 {
			return fmt.Errorf("module list: module %q needs itself, or one that does", m.Name)
		}
	}
	return nil
}

func validName(name string) bool {
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return name != "" && len(name) <= maxName
}

// Find returns the module of that name, or nil.
func (l *List) Find(name string) *Module {
	for i := range l.Modules {
		if l.Modules[i].Name == name {
			return &l.Modules[i]
		}
	}
	return nil
}

// Match returns the names of the modules for a device's modalias.
func (l *List) Match(modalias string) []string {
	var names []string
	for _, a := range l.Aliases {
		if Glob(a.Pattern, modalias) {
			names = append(names, a.Module)
		}
	}
	return names
}

// Glob reports whether pattern matches the whole of s, as fnmatch(3) without
// flags does: "*", "?" and sets such as "[0-9a]" are special, nothing else is.
// It takes time in proportion to the product of the lengths at most.
func Glob(pattern, s string) bool {
	star, mark := -1, 0
	p, i := 0, 0
	for i < len(s) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, i
			p++
			continue
		}
		if n, ok := globOne(pattern[p:], s[i]); ok {
			p += n
			i++
			continue
		}
		if star < 0 {
			return false
		}
		mark++
		p, i = star+1, mark
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// globOne matches the first element of pattern, which is no "*", with c and
// returns the element's length.
func globOne(pattern string, c byte) (int, bool) {
	if pattern == "" {
		return 0, false
	}
	switch pattern[0] {
	case '?':
		return 1, true
	case '[':
		end := strings.IndexByte(pattern, ']')
		if end < 0 {
			break
		}
		for set := pattern[1:end]; set != ""; {
			if len(set) >= 3 && set[1] == '-' {
				if set[0] <= c && c <= set[2] {
					return end + 1, true
				}
				set = set[3:]
				continue
			}
			if set[0] == c {
				return end + 1, true
			}
			set = set[1:]
		}
		return 0, false
	}
	return 1, pattern[0] == c
}
