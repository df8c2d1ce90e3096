package compose

import (
	"fmt"
	"path"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// maxUnit is how large a unit file may be, in bytes.
const maxUnit = 1 << 20

// unitDirs are where units are looked for, the first wins (systemd.unit(5)).
var unitDirs = []string{"/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"}

// setServices switches units as systemctl --root would: links in
// /etc/systemd/system, from what the units' [Install] sections say.
func (b *builder) setServices(t *tree.Tree) error {
	s := b.o.Recipe.Services
	for _, unit := range append(b.agentUnits(t), s.Enabled...) {
		if err := b.enable(t, unit, make(map[string]bool)); err != nil {
			return err
		}
	}
	// After enabling, because a unit may bring others with it (Also=).
	for _, unit := range s.Disabled {
		disable(t, unit)
	}
	for _, unit := range s.Masked {
		disable(t, unit)
		if err := putSymlink(t, "/etc/systemd/system/"+unit, "/dev/null"); err != nil {
			return err
		}
	}
	return nil
}

// install is what a unit's [Install] section says.
type install struct {
	wantedBy, requiredBy, upheldBy, alias, also []string
	defaultInstance                             string
}

func (b *builder) enable(t *tree.Tree, unit string, seen map[string]bool) error {
	if seen[unit] {
		return nil
	}
	seen[unit] = true
	file, n := findUnit(t, unit)
	if n == nil {
		return fmt.Errorf("service %q: there is no such unit in the tree", unit)
	}
	if n.Target == "/dev/null" {
		return fmt.Errorf("service %q is masked in the tree", unit)
	}
	if real, ok := realPath(t, file); ok && path.Base(real) != path.Base(file) {
		// An alias: what is behind it is enabled, under its own name.
		return b.enable(t, path.Base(real), seen)
	}
	text, err := b.spool.content(n, maxUnit)
	if err != nil {
		return fmt.Errorf("service %q: %w", unit, err)
	}
	in := parseInstall(string(text))
	prefix, instance, template := instanceOf(unit)
	if template && instance == "" {
		if in.defaultInstance == "" {
			return fmt.Errorf("service %q is a template: say which instance", unit)
		}
		instance = in.defaultInstance
		unit = prefix + "@" + instance + path.Ext(unit)
	}
	expand := strings.NewReplacer("%i", instance, "%I", instance, "%j", instance, "%p", prefix, "%n", unit, "%N", strings.TrimSuffix(unit, path.Ext(unit)), "%%", "%")
	for _, links := range []struct {
		targets []string
		suffix  string
	}{{in.wantedBy, ".wants"}, {in.requiredBy, ".requires"}, {in.upheldBy, ".upholds"}} {
		for _, target := range links.targets {
			link := "/etc/systemd/system/" + expand.Replace(target) + links.suffix + "/" + unit
			if err := putSymlink(t, link, file); err != nil {
				return err
			}
		}
	}
	for _, alias := range in.alias {
		if err := putSymlink(t, "/etc/systemd/system/"+expand.Replace(alias), file); err != nil {
			return err
		}
	}
	for _, also := range in.also {
		if err := b.enable(t, expand.Replace(also), seen); err != nil {
			return err
		}
	}
	return nil
}

// findUnit gives the path and node of a unit's file; an instance's is its template's.
func findUnit(t *tree.Tree, unit string) (string, *tree.Node) {
	names := []string{unit}
	if prefix, instance, ok := instanceOf(unit); ok && instance != "" {
		names = append(names, prefix+"@"+path.Ext(unit))
	}
	for _, name := range names {
		for _, dir := range unitDirs {
			p := dir + "/" + name
			if n := follow(t, p); n != nil && n.IsSymlink() && n.Target == "/dev/null" {
				return p, n
			}
			if n := followFile(t, p); n != nil && n.Inode().IsRegular() {
				return p, n
			}
		}
	}
	return "", nil
}

// instanceOf splits "getty@tty1.service" into "getty" and "tty1".
func instanceOf(unit string) (prefix, instance string, ok bool) {
	base := strings.TrimSuffix(unit, path.Ext(unit))
	return strings.Cut(base, "@")
}

// disable takes away every link of the image's own that starts the unit.
func disable(t *tree.Tree, unit string) {
	dir := followDir(t, "/etc/systemd/system")
	if dir == nil {
		return
	}
	isUnit := func(n *tree.Node) bool {
		return n.IsSymlink() && (n.Name == unit || path.Base(n.Target) == unit)
	}
	removeChildren(dir, func(n *tree.Node) bool { return !isUnit(n) })
	for _, c := range dir.Children {
		switch path.Ext(c.Name) {
		case ".wants", ".requires", ".upholds":
			removeChildren(c, func(n *tree.Node) bool { return !isUnit(n) })
		}
	}
}

// parseInstall reads the [Install] section of a unit file (systemd.syntax(7)).
func parseInstall(text string) install {
	var in install
	section := ""
	text = strings.ReplaceAll(text, "\\\n", " ")
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			section = line
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || section != "[Install]" {
			continue
		}
		words := strings.Fields(value)
		add := func(list *[]string) {
			if len(words) == 0 {
				*list = nil // an empty assignment starts the list anew
			}
			*list = append(*list, words...)
		}
		switch strings.TrimSpace(key) {
		case "WantedBy":
			add(&in.wantedBy)
		case "RequiredBy":
			add(&in.requiredBy)
		case "UpheldBy":
			add(&in.upheldBy)
		case "Alias":
			add(&in.alias)
		case "Also":
			add(&in.also)
		case "DefaultInstance":
			in.defaultInstance = strings.TrimSpace(value)
		}
	}
	return in
}
