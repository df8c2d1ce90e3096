package recipe

import (
	"slices"
	"strings"
)

// Recipe is one recipe with everything it includes merged into it. Paths of
// files on the publisher's machine are absolute (or relative to the caller's
// directory, if Load was given a relative path); paths in the image are absolute.
type Recipe struct {
	Include  []string `toml:"include"`
	Name     string   `toml:"name"`
	Version  string   `toml:"version"`
	Modules  string   `toml:"modules"` // "uncompressed" (default) or "as-packaged"
	Exclude  []string `toml:"exclude"` // patterns of paths that are left out
	Base     Base     `toml:"base"`
	Kernel   Kernel   `toml:"kernel"`
	Boot     Boot     `toml:"boot"`
	Update   Update   `toml:"update"`
	Trust    Trust    `toml:"trust"`
	Health   Health   `toml:"health"`
	Services Services `toml:"services"`
	Files    []File   `toml:"files"`
	Users    []User   `toml:"users"`
	Groups   []Group  `toml:"groups"`
	Run      []Script `toml:"run"`
}

// Values of Recipe.Modules.
const (
	ModulesUncompressed = "uncompressed"
	ModulesAsPackaged   = "as-packaged"
)

// Values of Base.Kind.
const (
	BaseDebian    = "debian"
	BaseOCI       = "oci"
	BaseDirectory = "directory"
)

// Base is what an image starts from.
type Base struct {
	Kind string `toml:"kind"`

	// Kind "debian": packages of one suite, by default trixie from deb.debian.org.
	Suite        string       `toml:"suite"`
	Components   []string     `toml:"components"`
	Mirror       string       `toml:"mirror"`
	Snapshot     string       `toml:"snapshot"` // instead of a mirror: YYYYMMDDTHHMMSSZ of snapshot.debian.org
	Keys         string       `toml:"keys"`     // keyring file; empty: Debian's own
	Architecture string       `toml:"architecture"`
	Packages     []string     `toml:"packages"`
	Recommends   *bool        `toml:"recommends"` // also install what packages recommend; default no
	Repositories []Repository `toml:"repositories"`

	Image string `toml:"image"` // kind "oci": host/path:tag, host/path@digest or oci:DIR[:tag]
	Path  string `toml:"path"`  // kind "directory"
}

// Repository is one more source of Debian packages.
type Repository struct {
	URI        string   `toml:"uri"`
	Suite      string   `toml:"suite"`
	Components []string `toml:"components"`
	Keys       string   `toml:"keys"` // keyring file, binary or ASCII-armoured; empty: as the base's
}

// Kernel says which kernel an image boots and with which arguments.
type Kernel struct {
	Package   string   `toml:"package"` // a Debian package; empty where the base brings a kernel, or none is wanted
	Arguments []string `toml:"arguments"`
}

// Boot says how a machine starts.
type Boot struct {
	Foreign string `toml:"foreign"` // ForeignRefuse (default) or ForeignAccept
}

// Values of Boot.Foreign: what becomes of kernel parameters and credentials
// that firmware, hypervisor, loader or ESP add to the boot file's.
const (
	ForeignRefuse = "refuse"
	ForeignAccept = "accept" // for tests: who gives the parameters has the machine
)

// Update says where machines look for releases. It is written to
// /usr/lib/ashlar/update.toml in the image.
type Update struct {
	Repository string `toml:"repository"`
	Channel    string `toml:"channel"`
	Interval   string `toml:"interval"` // a systemd time span such as "6h"
}

// Trust says whose releases machines take. Root is a file of the publisher's
// keys; it becomes /usr/lib/ashlar/trust/root.json in the image.
type Trust struct {
	Root string `toml:"root"`
}

// Health says when a system has come up right, and when one hangs. It is
// written to /usr/lib/ashlar/health.toml and to systemd's configuration.
type Health struct {
	Units    []string `toml:"units"`    // that must not fail; default: the units in Services.Enabled
	Network  *bool    `toml:"network"`  // there has to be a default route; default no
	Checks   []string `toml:"checks"`   // executables for /usr/lib/ashlar/health.d
	Timeout  *int     `toml:"timeout"`  // seconds that one check may take; default 60
	Watchdog *int     `toml:"watchdog"` // seconds that systemd may hang; default 60, 0 is no watchdog
}

// rebootOnPanic makes a kernel that gives up restart after ten seconds, so that the
// loader counts it as a boot that failed.
const rebootOnPanic = "panic=10"

// Defaults of Health, seconds.
const (
	DefaultHealthTimeout = 60
	DefaultWatchdog      = 60
)

// RequiredUnits are the units that must not fail.
func (r *Recipe) RequiredUnits() []string {
	if r.Health.Units != nil {
		return r.Health.Units
	}
	off := append(slices.Clone(r.Services.Disabled), r.Services.Masked...)
	return slices.DeleteFunc(slices.Clone(r.Services.Enabled), func(unit string) bool { return slices.Contains(off, unit) })
}

// HealthTimeout is how many seconds one check may take.
func (r *Recipe) HealthTimeout() int {
	if r.Health.Timeout == nil {
		return DefaultHealthTimeout
	}
	return *r.Health.Timeout
}

// Watchdog is how many seconds systemd may hang, 0 for ever.
func (r *Recipe) Watchdog() int {
	if r.Health.Watchdog == nil {
		return DefaultWatchdog
	}
	return *r.Health.Watchdog
}

// Services lists systemd units to switch on or off, as systemctl would.
type Services struct {
	Enabled  []string `toml:"enabled"`
	Disabled []string `toml:"disabled"`
	Masked   []string `toml:"masked"`
}

// File is one path the recipe puts into the image: content, the copy of a
// source file, a symbolic link, or an empty directory.
type File struct {
	Path      string  `toml:"path"`
	Content   *string `toml:"content"`
	Source    string  `toml:"source"`
	Symlink   string  `toml:"symlink"`
	Directory bool    `toml:"directory"`
	Mode      string  `toml:"mode"`  // octal; default 0644, 0755 for directories
	Owner     string  `toml:"owner"` // name or number; default root
	Group     string  `toml:"group"` // name or number; default root
}

// User is an account with a fixed id.
type User struct {
	Name     string   `toml:"name"`
	UID      *uint32  `toml:"uid"`
	Group    string   `toml:"group"`   // primary group; default: a group of the user's name and id
	Groups   []string `toml:"groups"`  // further groups
	Comment  string   `toml:"comment"` // GECOS
	Home     string   `toml:"home"`
	Shell    string   `toml:"shell"`
	Password *string  `toml:"password"` // a crypt(5) hash; "" lets anybody in; default: no login by password
}

// Group is a group with a fixed id.
type Group struct {
	Name string  `toml:"name"`
	GID  *uint32 `toml:"gid"`
}

// Script runs in the tree, as root of it, without network.
type Script struct {
	Command string `toml:"command"` // for /bin/sh -e, or with its own #! line
	Source  string `toml:"source"`  // a file with the script
}

// CommandLine is the kernel command line the recipe asks for, without what
// identifies the image.
//
// Where nothing may be added it ends with "--". What the stub appends after it
// (SMBIOS strings, under Secure Boot too) is no parameter of the kernel's any
// more, so that no "rdinit=" or "noinitrd" keeps ashlar-init from running, which
// then sees that something was added.
func (r *Recipe) CommandLine() []string {
	args := append([]string(nil), r.Kernel.Arguments...)
	if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "panic=") }) {
		args = append(args, rebootOnPanic)
	}
	if r.RefusesForeign() {
		args = append(args, "systemd.import_credentials=no", "--")
	}
	return args
}

// RefusesForeign reports whether machines take nothing from firmware,
// hypervisor, loader and ESP beyond what the boot file says.
func (r *Recipe) RefusesForeign() bool { return r.Boot.Foreign != ForeignAccept }
