package recipe

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/ashlar-os/ashlar/internal/limited"
)

// LockSchema is the version of recipe.lock that this package reads and writes.
const LockSchema = 1

// Lock is what a build used, exactly.
type Lock struct {
	Schema       int              `toml:"schema"`
	Recipe       string           `toml:"recipe"`   // name of the recipe
	Inputs       string           `toml:"inputs"`   // sha256 of what was resolved, see Recipe.InputsDigest
	Epoch        int64            `toml:"epoch"`    // SOURCE_DATE_EPOCH: mtime of every file
	RuleSet      int              `toml:"rule_set"` // version of the tree rules
	Architecture string           `toml:"architecture,omitempty"`
	Image        string           `toml:"image,omitempty"` // base oci: digest of the image's manifest
	Repositories []LockRepository `toml:"repositories,omitempty"`
	Packages     []LockPackage    `toml:"packages,omitempty"`
	Users        []LockUser       `toml:"users,omitempty"`
	Groups       []LockGroup      `toml:"groups,omitempty"`
}

// LockRepository is where packages were found; LockPackage refers to it by number.
type LockRepository struct {
	URI   string `toml:"uri"`
	Suite string `toml:"suite"`
}

// LockPackage is one package file.
type LockPackage struct {
	Name         string `toml:"name"`
	Version      string `toml:"version"`
	Architecture string `toml:"architecture"`
	SHA256       string `toml:"sha256"`
	Size         int64  `toml:"size"`
	Repository   int    `toml:"repository"` // index into Lock.Repositories
	Filename     string `toml:"filename"`   // relative to the repository's URI
}

// LockUser is the id of one user of the image.
type LockUser struct {
	Name string `toml:"name"`
	UID  uint32 `toml:"uid"`
}

// LockGroup is the id of one group of the image.
type LockGroup struct {
	Name string `toml:"name"`
	GID  uint32 `toml:"gid"`
}

// Encode gives the bytes of recipe.lock.
func (l *Lock) Encode() ([]byte, error) {
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("encoding the lock of %q: %w", l.Recipe, err)
	}
	var b bytes.Buffer
	b.WriteString("# Written by ashlar build: what one build of this recipe used. Keep it beside the recipe.\n")
	if err := toml.NewEncoder(&b).Encode(l); err != nil {
		return nil, fmt.Errorf("encoding the lock of %q: %w", l.Recipe, err)
	}
	return b.Bytes(), nil
}

// LoadLock reads a recipe.lock.
func LoadLock(path string) (*Lock, error) {
	data, err := limited.File(path, maxLockSize)
	if err != nil {
		return nil, err
	}
	return DecodeLock(path, data)
}

// DecodeLock reads a lock's bytes; path is what errors call it.
func DecodeLock(path string, data []byte) (*Lock, error) {
	var l Lock
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&l); err != nil {
		return nil, newSource(path, data).decodeError(err)
	}
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return &l, nil
}

var (
	sha256RE         = regexp.MustCompile(`^[0-9a-f]{64}$`)
	digestRE         = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	packageVersionRE = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+:~-]{0,254}$`)
)

// check refuses what no build writes. Names of packages and files become
// paths and arguments of programs later, so they are held to their grammar here.
func (l *Lock) check() error {
	switch {
	case l.Schema != LockSchema:
		return fmt.Errorf("the lock has schema %d, this ashlar knows %d", l.Schema, LockSchema)
	case l.Epoch < 0 || l.Epoch > 1<<33:
		return fmt.Errorf("epoch %d is not a time", l.Epoch)
	case !digestRE.MatchString(l.Inputs):
		return fmt.Errorf("inputs %q is not a digest", l.Inputs)
	case l.Image != "" && !digestRE.MatchString(l.Image):
		return fmt.Errorf("image %q is not a digest", l.Image)
	}
	for i, r := range l.Repositories {
		if !uriRE.MatchString(r.URI) {
			return fmt.Errorf("repositories[%d].uri: %q is not an http, https or file URI", i, r.URI)
		}
	}
	for i, p := range l.Packages {
		bad := func(field, value string) error {
			return fmt.Errorf("packages[%d].%s: %q is not valid", i, field, value)
		}
		switch {
		case !packageRE.MatchString(p.Name):
			return bad("name", p.Name)
		case !packageVersionRE.MatchString(p.Version):
			return bad("version", p.Version)
		case !wordRE.MatchString(p.Architecture):
			return bad("architecture", p.Architecture)
		case !sha256RE.MatchString(p.SHA256):
			return bad("sha256", p.SHA256)
		case p.Size <= 0 || p.Size > 1<<34:
			return bad("size", fmt.Sprint(p.Size))
		case p.Repository < 0 || p.Repository >= len(l.Repositories):
			return bad("repository", fmt.Sprint(p.Repository))
		case strings.HasPrefix(p.Filename, "/") || strings.ContainsAny(p.Filename, " \n\"'\\") || !strings.HasSuffix(p.Filename, ".deb"):
			return bad("filename", p.Filename)
		}
	}
	for i, u := range l.Users {
		if u.Name == "" || strings.ContainsAny(u.Name, ":\n") {
			return fmt.Errorf("users[%d].name: %q is not valid", i, u.Name)
		}
	}
	for i, g := range l.Groups {
		if g.Name == "" || strings.ContainsAny(g.Name, ":\n") {
			return fmt.Errorf("groups[%d].name: %q is not valid", i, g.Name)
		}
	}
	return nil
}
