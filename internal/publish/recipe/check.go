package recipe

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
)

var (
	nameRE     = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	versionRE  = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.~^-]{0,63}$`)
	packageRE  = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,127}$`)
	accountRE  = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	unitRE     = regexp.MustCompile(`^[A-Za-z0-9:_.\\@-]{1,250}\.(service|socket|timer|path|target|mount|automount|swap|slice)$`)
	suiteRE    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/+-]{0,127}$`)
	wordRE     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/+-]{0,63}$`)
	uriRE      = regexp.MustCompile(`^(https?|file|copy)://?[^\s\[\]"'<>]{1,1000}$`)
	snapshotRE = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z$`)
	intervalRE = regexp.MustCompile(`^[0-9]+ ?(s|sec|m|min|h|d|w)$`)
	checkRE    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	repoRE     = regexp.MustCompile(`^[A-Za-z0-9.\[\]:-]{1,260}(/[a-z0-9._-]+)+$`)
)

// check looks at every value of one file and reports the first that is wrong.
func (r *Recipe) check(src *source) error {
	c := &checker{src: src}
	c.match("name", r.Name, nameRE, "a name of lower-case letters, digits, '.', '_' and '-'")
	c.match("version", r.Version, versionRE, "a version of letters, digits, '.', '~', '^' and '-'")
	c.oneOf("modules", r.Modules, ModulesUncompressed, ModulesAsPackaged)
	for i, p := range r.Exclude {
		key := fmt.Sprintf("exclude[%d]", i)
		if _, err := path.Match(p, "/x"); err != nil || !strings.HasPrefix(p, "/") || p == "/" {
			c.failf(key, "%q is not a pattern of absolute paths, such as \"/usr/share/doc/*\"", p)
		}
	}
	for i, inc := range r.Include {
		if inc == "" || path.IsAbs(inc) {
			c.failf(fmt.Sprintf("include[%d]", i), "%q is not a path relative to this recipe", inc)
		}
	}
	r.Base.check(c)
	c.match("kernel.package", r.Kernel.Package, packageRE, "a package name")
	for i, a := range r.Kernel.Arguments {
		if a == "" || a == "--" || strings.ContainsAny(a, " \t\n\x00") && !strings.Contains(a, `"`) || strings.HasPrefix(a, "ashlar.") {
			c.failf(fmt.Sprintf("kernel.arguments[%d]", i), "%q is not one kernel argument (and \"--\" and those of ashlar.* are not for recipes)", a)
		}
	}
	c.oneOf("boot.foreign", r.Boot.Foreign, ForeignRefuse, ForeignAccept)
	c.match("update.repository", r.Update.Repository, repoRE, "a repository such as \"registry.example/acme/server\"")
	c.match("update.channel", r.Update.Channel, nameRE, "a channel name")
	c.match("update.interval", r.Update.Interval, intervalRE, "a time span such as \"6h\" or \"30min\"")
	lists := []struct {
		name  string
		units []string
	}{{"enabled", r.Services.Enabled}, {"disabled", r.Services.Disabled}, {"masked", r.Services.Masked}}
	for _, list := range lists {
		for i, unit := range list.units {
			c.match(fmt.Sprintf("services.%s[%d]", list.name, i), unit, unitRE, "a unit name with its suffix, such as \"ssh.service\"")
		}
	}
	r.Health.check(c)
	for i, f := range r.Files {
		f.check(c, fmt.Sprintf("files[%d]", i))
	}
	for i, u := range r.Users {
		u.check(c, fmt.Sprintf("users[%d]", i))
	}
	for i, g := range r.Groups {
		key := fmt.Sprintf("groups[%d]", i)
		c.account(key+".name", g.Name)
		if g.GID == nil {
			c.failf(key, "group %q has no gid", g.Name)
		}
	}
	for i, s := range r.Run {
		if (s.Command == "") == (s.Source == "") {
			c.failf(fmt.Sprintf("run[%d]", i), "a run entry has either command or source")
		}
	}
	return c.err
}

func (b *Base) check(c *checker) {
	c.oneOf("base.kind", b.Kind, BaseDebian, BaseOCI, BaseDirectory)
	c.match("base.suite", b.Suite, suiteRE, "a suite such as \"trixie\"")
	c.match("base.mirror", b.Mirror, uriRE, "an http, https or file URI")
	c.match("base.snapshot", b.Snapshot, snapshotRE, "a time such as \"20250901T000000Z\"")
	c.oneOf("base.architecture", b.Architecture, "amd64")
	if b.Mirror != "" && b.Snapshot != "" {
		c.failf("base.snapshot", "a base has a mirror or a snapshot, not both")
	}
	for i, w := range b.Components {
		c.match(fmt.Sprintf("base.components[%d]", i), w, wordRE, "a component such as \"main\"")
	}
	for i, p := range b.Packages {
		c.match(fmt.Sprintf("base.packages[%d]", i), p, packageRE, "a package name")
	}
	for i, r := range b.Repositories {
		key := fmt.Sprintf("base.repositories[%d]", i)
		if r.URI == "" || r.Suite == "" {
			c.failf(key, "a repository has a uri and a suite")
		}
		c.match(key+".uri", r.URI, uriRE, "an http, https or file URI")
		c.match(key+".suite", r.Suite, suiteRE, "a suite, or a path that ends in /")
		for j, w := range r.Components {
			c.match(fmt.Sprintf("%s.components[%d]", key, j), w, wordRE, "a component such as \"main\"")
		}
		if len(r.Components) == 0 && !strings.HasSuffix(r.Suite, "/") {
			c.failf(key, "a repository has components (unless its suite is a path that ends in /)")
		}
	}
}

func (h *Health) check(c *checker) {
	for i, unit := range h.Units {
		c.match(fmt.Sprintf("health.units[%d]", i), unit, unitRE, "a unit name with its suffix, such as \"ssh.service\"")
		if unit == "" {
			c.failf(fmt.Sprintf("health.units[%d]", i), "a unit has a name")
		}
	}
	for i, file := range h.Checks {
		if !checkRE.MatchString(path.Base(file)) {
			c.failf(fmt.Sprintf("health.checks[%d]", i), "%q is not a file whose name is of letters, digits, '.', '_' and '-'", file)
		}
	}
	if t := h.Timeout; t != nil && (*t < 1 || *t > 3600) {
		c.failf("health.timeout", "a check may take 1 to 3600 seconds, not %d", *t)
	}
	if w := h.Watchdog; w != nil && *w != 0 && (*w < 10 || *w > 600) {
		c.failf("health.watchdog", "the watchdog waits 10 to 600 seconds, or 0 for none, not %d", *w)
	}
}

func (f *File) check(c *checker, key string) {
	if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/" || strings.ContainsRune(f.Path, 0) {
		c.failf(key+".path", "%q is not an absolute path in its shortest form", f.Path)
	}
	kinds := 0
	for _, is := range []bool{f.Content != nil, f.Source != "", f.Symlink != "", f.Directory} {
		if is {
			kinds++
		}
	}
	if kinds != 1 {
		c.failf(key, "file %q has exactly one of content, source, symlink and directory", f.Path)
	}
	if f.Mode != "" {
		if m, err := strconv.ParseUint(f.Mode, 8, 32); err != nil || m > 0o7777 {
			c.failf(key+".mode", "%q is not an octal mode such as \"0644\"", f.Mode)
		}
		if f.Symlink != "" {
			c.failf(key+".mode", "a symbolic link has no mode")
		}
	}
	for _, o := range []struct{ key, name string }{{key + ".owner", f.Owner}, {key + ".group", f.Group}} {
		if _, err := strconv.ParseUint(o.name, 10, 32); o.name != "" && err != nil {
			c.account(o.key, o.name)
		}
	}
}

func (u *User) check(c *checker, key string) {
	c.account(key+".name", u.Name)
	if u.UID == nil && u.Name != "root" {
		c.failf(key, "user %q has no uid", u.Name)
	}
	if u.UID != nil && *u.UID >= 1<<31 {
		c.failf(key+".uid", "%d is not a user id", *u.UID)
	}
	if u.Group != "" {
		c.account(key+".group", u.Group)
	}
	for i, g := range u.Groups {
		c.account(fmt.Sprintf("%s.groups[%d]", key, i), g)
	}
	texts := []struct{ key, value string }{{"comment", u.Comment}, {"home", u.Home}, {"shell", u.Shell}}
	if u.Password != nil {
		texts = append(texts, struct{ key, value string }{"password", *u.Password})
	}
	for _, t := range texts {
		if strings.ContainsAny(t.value, ":\n\x00") {
			c.failf(key+"."+t.key, "%q has a character that /etc/passwd cannot hold", t.value)
		}
	}
}

// checker keeps the first error.
type checker struct {
	src *source
	err error
}

func (c *checker) failf(key, format string, args ...any) {
	if c.err == nil {
		c.err = c.src.errorf(key, format, args...)
	}
}

// match wants value to match re; an empty value was not given.
func (c *checker) match(key, value string, re *regexp.Regexp, want string) {
	if value != "" && !re.MatchString(value) {
		c.failf(key, "%q is not %s", value, want)
	}
}

func (c *checker) oneOf(key, value string, allowed ...string) {
	for _, a := range allowed {
		if value == a || value == "" {
			return
		}
	}
	c.failf(key, "%q is not one of %q", value, allowed)
}

func (c *checker) account(key, name string) {
	if !accountRE.MatchString(name) {
		c.failf(key, "%q is not a user or group name", name)
	}
}
