package release

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// Limits of a document. They are far above what a real release needs and far
// below what could trouble a machine.
const (
	maxImages   = 1024
	maxAccounts = 1 << 14
	maxFileSize = 1 << 40 // bytes
	maxObjects  = 1 << 26
	maxTextLen  = 128
)

// The roles an image may have.
const (
	RoleRoot      = "root"
	RoleApp       = "app"
	RoleService   = "service"
	RoleExtension = "extension"
)

// Root returns the image that a machine boots. Every checked document has one.
func (d *Document) Root() Image {
	for _, image := range d.Images {
		if image.Role == RoleRoot {
			return image
		}
	}
	return Image{}
}

// check says which field is wrong, and how.
func (d *Document) check() error {
	field := func(name string, err error) error {
		if err == nil {
			return nil
		}
		return fmt.Errorf("field %q: %w", name, err)
	}
	if d.Schema != Schema {
		return field("schema", fmt.Errorf("it is %d, want %d", d.Schema, Schema))
	}
	if err := CheckName(d.Name); err != nil {
		return field("name", err)
	}
	if err := CheckVersion(d.Version); err != nil {
		return field("version", err)
	}
	if want := d.Name + "-" + d.Version; d.ID != want {
		return field("id", fmt.Errorf("it is %.200q, and name and version make %q", d.ID, want))
	}
	if err := checkWord("architecture", d.Architecture, maxNameLen, isNameChar); err != nil {
		return field("architecture", err)
	}
	if err := checkTime(d.Created); err != nil {
		return field("created", err)
	}
	if err := d.checkImages(); err != nil {
		return err
	}
	for _, f := range []namedFile{
		{"uki", d.UKI}, {"pack", d.Pack}, {"pack_index", d.PackIndex}, {"sbom", d.SBOM}, {"lock", d.Lock},
	} {
		if err := f.check(); err != nil {
			return err
		}
	}
	if d.Medium != nil {
		if err := d.Medium.check(); err != nil {
			return err
		}
	}
	if err := checkRange(int64(d.RuleSet), 1, 1<<16); err != nil {
		return field("rule_set", err)
	}
	if d.ReachableFrom != "" {
		if err := CheckVersion(d.ReachableFrom); err != nil {
			return field("reachable_from", err)
		}
		if CompareVersions(d.ReachableFrom, d.Version) > 0 {
			return field("reachable_from", fmt.Errorf("%q is newer than the release itself, %q", d.ReachableFrom, d.Version))
		}
	}
	if err := checkAccounts(d.Users); err != nil {
		return field("users", err)
	}
	if err := checkAccounts(d.Groups); err != nil {
		return field("groups", err)
	}
	return field("builder", checkText(d.Builder))
}

// namedFile is a file and the name of its field.
type namedFile struct {
	name string
	file File
}

func (f namedFile) check() error {
	if _, err := verity.Parse(f.file.SHA256); err != nil { // the same spelling: 64 hexadecimal digits
		return fmt.Errorf("field %q: %w", f.name+".sha256", err)
	}
	if err := checkRange(f.file.Size, 1, maxFileSize); err != nil {
		return fmt.Errorf("field %q: %w", f.name+".size", err)
	}
	return nil
}

// mediumBlock is what everything on a medium is aligned to, in bytes.
const mediumBlock = 4096

func (m *Medium) check() error {
	for _, f := range []namedFile{{"medium.map", m.Map}, {"medium.blocks", m.Blocks}} {
		if err := f.check(); err != nil {
			return err
		}
	}
	if err := checkRange(m.Size, mediumBlock, maxFileSize); err != nil {
		return fmt.Errorf("field %q: %w", "medium.size", err)
	}
	if m.Size%mediumBlock != 0 || m.Blocks.Size%mediumBlock != 0 || m.Blocks.Size > m.Size {
		return fmt.Errorf("field %q: blocks of %d bytes cannot be an image of %d", "medium.size", m.Blocks.Size, m.Size)
	}
	if _, err := verity.Parse(m.RootHash); err != nil {
		return fmt.Errorf("field %q: %w", "medium.root_hash", err)
	}
	return nil
}

func (d *Document) checkImages() error {
	if len(d.Images) == 0 || len(d.Images) > maxImages {
		return fmt.Errorf(`field "images" lists %d images, want 1 to %d`, len(d.Images), maxImages)
	}
	roots := 0
	seen := make(map[verity.Digest]bool, len(d.Images))
	for i, image := range d.Images {
		field := func(name string, err error) error {
			return fmt.Errorf(`field "images[%d].%s": %w`, i, name, err)
		}
		switch image.Role {
		case RoleRoot:
			roots++
		case RoleApp, RoleService, RoleExtension:
		default:
			return field("role", fmt.Errorf("the role %.40q is not known", image.Role))
		}
		if image.Digest.IsZero() {
			return field("digest", errors.New("it is not set"))
		}
		if seen[image.Digest] {
			return field("digest", fmt.Errorf("%q is listed twice", image.Digest))
		}
		seen[image.Digest] = true
		if err := checkRange(image.Size, 1, maxFileSize); err != nil {
			return field("size", err)
		}
		if err := checkRange(int64(image.Objects), 0, maxObjects); err != nil {
			return field("objects", err)
		}
		if err := checkRange(image.Bytes, 0, maxFileSize); err != nil {
			return field("bytes", err)
		}
	}
	if roots != 1 {
		return fmt.Errorf(`field "images" lists %d images with the role %q, want one`, roots, RoleRoot)
	}
	return nil
}

// checkTime wants RFC 3339 in the one spelling that needs no zone: whole
// seconds, UTC, "Z".
func checkTime(s string) error {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.UTC().Format(time.RFC3339) != s {
		return fmt.Errorf("%.40q is not a time such as 2026-01-31T12:00:00Z", s)
	}
	return nil
}

func checkRange(n, low, high int64) error {
	if n < low || n > high {
		return fmt.Errorf("%d is not between %d and %d", n, low, high)
	}
	return nil
}

// checkAccounts checks names as passwd(5) can hold them, and ids: the highest
// stands for "no id" in the kernel, and 65535 did in the 16-bit calls.
func checkAccounts(ids map[string]uint32) error {
	if len(ids) > maxAccounts {
		return fmt.Errorf("it lists %d names, at most %d are allowed", len(ids), maxAccounts)
	}
	for _, name := range slices.Sorted(maps.Keys(ids)) {
		if name == "" || len(name) > maxNameLen || strings.ContainsAny(name, ":,/\\") || checkText(name) != nil ||
			strings.ContainsRune(name, ' ') {
			return fmt.Errorf("%.80q cannot be the name of an account", name)
		}
		if id := ids[name]; id == 1<<32-1 || id == 1<<16-1 {
			return fmt.Errorf("%q has the id %d, which stands for no id", name, id)
		}
	}
	return nil
}

// checkText wants a short line of printable characters.
func checkText(s string) error {
	if s == "" {
		return errors.New("it is empty")
	}
	if len(s) > maxTextLen {
		return fmt.Errorf("it has %d bytes, at most %d are allowed", len(s), maxTextLen)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("%q is not a line of printable text", s)
	}
	return nil
}
