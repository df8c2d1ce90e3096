package initramfs

import (
	"bufio"
	"bytes"
	"fmt"
	"path"
	"sort"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/modules"
)

// kernel is what depmod(8) wrote about one kernel's modules.
type kernel struct {
	version string
	files   map[string]string   // module → path below /usr/lib/modules/VERSION
	deps    map[string][]string // module → all it needs, in the order in which to load them
	builtin map[string]bool
	softdep map[string][]string // module → names or aliases to load before it
	aliases []modules.Alias     // in the file's order
}

// moduleName is the kernel's name for a module file: "kernel/fs/a-b.ko.xz" is "a_b".
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// readKernel parses depmod's files; read gives a file of the modules directory.
func readKernel(version string, read func(name string) ([]byte, error)) (*kernel, error) {
	k := &kernel{
		version: version,
		files:   map[string]string{}, deps: map[string][]string{},
		builtin: map[string]bool{}, softdep: map[string][]string{},
	}
	for _, f := range []struct {
		name  string
		parse func(line string) error
	}{
		{"modules.dep", k.parseDep},
		{"modules.builtin", k.parseBuiltin},
		{"modules.softdep", k.parseSoftdep},
		{"modules.alias", k.parseAlias},
	} {
		b, err := read(f.name)
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(bytes.NewReader(b))
		lines.Buffer(nil, 1<<20)
		for n := 1; lines.Scan(); n++ {
			line := strings.TrimSpace(lines.Text())
			if line == "" || line[0] == '#' {
				continue
			}
			if err := f.parse(line); err != nil {
				return nil, fmt.Errorf("%q, line %d: %w", f.name, n, err)
			}
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("reading %q: %w", f.name, err)
		}
	}
	return k, nil
}

// parseDep reads "kernel/a.ko.xz: kernel/b.ko.xz kernel/c.ko.xz". The list is
// complete, and what comes last has to be loaded first.
func (k *kernel) parseDep(line string) error {
	file, needs, ok := strings.Cut(line, ":")
	if !ok || !strings.Contains(file, ".ko") {
		return fmt.Errorf("%.80q is no dependency", line)
	}
	name := moduleName(file)
	k.files[name] = file
	list := strings.Fields(needs)
	for i := len(list) - 1; i >= 0; i-- {
		k.deps[name] = append(k.deps[name], moduleName(list[i]))
	}
	return nil
}

func (k *kernel) parseBuiltin(line string) error {
	k.builtin[moduleName(line)] = true
	return nil
}

// parseSoftdep reads "softdep NAME [pre: NAME…] [post: NAME…]". What follows
// "post:" or neither is of no use to a machine that is looking for its root.
func (k *kernel) parseSoftdep(line string) error {
	f := strings.Fields(line)
	if len(f) < 2 || f[0] != "softdep" {
		return fmt.Errorf("%.80q is no soft dependency", line)
	}
	name, pre := strings.ReplaceAll(f[1], "-", "_"), false
	for _, word := range f[2:] {
		switch {
		case strings.HasSuffix(word, ":"):
			pre = word == "pre:"
		case pre:
			k.softdep[name] = append(k.softdep[name], word)
		}
	}
	return nil
}

func (k *kernel) parseAlias(line string) error {
	f := strings.Fields(line)
	if len(f) != 3 || f[0] != "alias" {
		return fmt.Errorf("%.80q is no alias", line)
	}
	k.aliases = append(k.aliases, modules.Alias{Module: strings.ReplaceAll(f[2], "-", "_"), Pattern: f[1]})
	return nil
}

// named lists the modules that a soft dependency means: one of that name, or
// those with an alias of exactly that name, such as "crc32c".
func (k *kernel) named(name string) []string {
	if n := strings.ReplaceAll(name, "-", "_"); k.files[n] != "" {
		return []string{n}
	}
	var list []string
	for _, a := range k.aliases {
		if a.Pattern == name && k.files[a.Module] != "" {
			list = append(list, a.Module)
		}
	}
	return list
}

// selection is a set of modules that grows with what they need.
type selection struct {
	kernel *kernel
	when   map[string]modules.When
	needs  map[string][]modules.Need
}

// add takes a module in and all it needs. A module that is asked for more
// than once keeps the earlier time of loading.
func (s *selection) add(name string, when modules.When) error {
	if old, ok := s.when[name]; ok {
		if old == modules.Matched {
			s.when[name] = when
		}
		return nil
	}
	if s.kernel.files[name] == "" {
		return fmt.Errorf("modules.dep does not list module %q, which another one needs", name)
	}
	s.when[name] = when
	var needs []modules.Need
	have := map[string]bool{name: true}
	need := func(n string, soft bool) error {
		if have[n] || s.kernel.builtin[n] {
			return nil
		}
		have[n] = true
		needs = append(needs, modules.Need{Name: n, Soft: soft})
		return s.add(n, modules.Matched)
	}
	for _, soft := range s.kernel.softdep[name] {
		for _, n := range s.kernel.named(soft) {
			if err := need(n, true); err != nil {
				return err
			}
		}
	}
	for _, n := range s.kernel.deps[name] {
		if err := need(n, false); err != nil {
			return err
		}
	}
	s.needs[name] = needs
	return nil
}

// list gives the selection in the form that the initramfs carries, sorted by
// name, with the aliases that stand for devices. A module that is asked for by
// name waits for that, also where its device is there.
func (s *selection) list() *modules.List {
	l := &modules.List{Kernel: s.kernel.version}
	for name := range s.when {
		l.Modules = append(l.Modules, modules.Module{Name: name, When: s.when[name], Needs: s.needs[name]})
	}
	sort.Slice(l.Modules, func(i, j int) bool { return l.Modules[i].Name < l.Modules[j].Name })
	for _, a := range s.kernel.aliases {
		if when, ok := s.when[a.Module]; ok && when != modules.Named && strings.Contains(a.Pattern, ":") {
			l.Aliases = append(l.Aliases, a)
		}
	}
	sort.SliceStable(l.Aliases, func(i, j int) bool { return l.Aliases[i].Module < l.Aliases[j].Module })
	return l
}
