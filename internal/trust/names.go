package trust

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ashlar-os/ashlar/internal/image/release"
)

// The roles, as TUF and this repository name them.
const (
	RoleRoot      = "root"
	RoleTargets   = "targets"
	RoleChannels  = "channels"
	RoleSnapshot  = "snapshot"
	RoleTimestamp = "timestamp"
)

// Roles lists every role, in the order in which they depend on each other.
func Roles() []string {
	return []string{RoleRoot, RoleTargets, RoleChannels, RoleSnapshot, RoleTimestamp}
}

// stampName is where everything begins: see FileName.
const stampName = RoleTimestamp + ".json"

// FileName is the name of a role's metadata in a repository with consistent
// snapshots: "3.targets.json". The timestamp alone has no number, because it is
// what tells the numbers of the others.
func FileName(role string, version int64) string {
	if role == RoleTimestamp {
		return stampName
	}
	return strconv.FormatInt(version, 10) + "." + role + ".json"
}

// Target says which image is meant: nothing that is signed for one is of any
// use for another.
type Target struct {
	Name         string `json:"name"`         // such as "server"
	Architecture string `json:"architecture"` // such as "amd64"
}

func (t Target) String() string { return t.Name + " (" + t.Architecture + ")" }

func (t Target) check() error {
	if err := release.CheckName(t.Name); err != nil {
		return err
	}
	if release.CheckName(t.Architecture) != nil { // the same letters as a document allows
		return fmt.Errorf("%.80q is not the name of an architecture", t.Architecture)
	}
	return nil
}

// The kinds of targets; each is the first part of their paths.
const (
	kindRelease   = "releases"
	kindChannel   = "channels"
	kindWithdrawn = "withdrawn"
)

// targetPath is a target's name, "releases/server/amd64/1.2.0".
type targetPath struct {
	kind  string
	image Target
	last  string // version or channel
}

func (p targetPath) String() string {
	return strings.Join([]string{p.kind, p.image.Name, p.image.Architecture, p.last}, "/")
}

// parsePath reads the name of a target. A kind that is not known is ok, with
// nothing else filled in, so that a later ashlar can sign more than this one
// knows; it must still look like a path that leads nowhere else.
func parsePath(s string) (targetPath, error) {
	parts := strings.Split(s, "/")
	if len(s) > 4*128 {
		return targetPath{}, fmt.Errorf("the name %.40q… has %d characters", s, len(s))
	}
	for _, part := range parts {
		if part == "" || part == "." || part == ".." || strings.ContainsFunc(part, notInPath) {
			return targetPath{}, fmt.Errorf("the name %q is not one that ashlar gives", s)
		}
	}
	p := targetPath{kind: parts[0]}
	var checkLast func(string) error
	switch p.kind {
	case kindRelease, kindWithdrawn:
		checkLast = release.CheckVersion
	case kindChannel:
		checkLast = release.CheckChannel
	default:
		return p, nil
	}
	if len(parts) != 4 {
		return targetPath{}, fmt.Errorf("the name %q has %d parts, want 4", s, len(parts))
	}
	p.image, p.last = Target{parts[1], parts[2]}, parts[3]
	if err := p.image.check(); err != nil {
		return targetPath{}, fmt.Errorf("the name %q: %w", s, err)
	}
	if err := checkLast(p.last); err != nil {
		return targetPath{}, fmt.Errorf("the name %q: %w", s, err)
	}
	return p, nil
}

func notInPath(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(".-_~", r))
}

// roleOf returns the role of a metadata file by its name, "" for other files.
func roleOf(name string) string {
	if name == stampName {
		return RoleTimestamp
	}
	number, rest, _ := strings.Cut(name, ".")
	role, ok := strings.CutSuffix(rest, ".json")
	v, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || v < 1 || FileName(role, v) != name {
		return ""
	}
	return role
}

func notPrintable(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }
