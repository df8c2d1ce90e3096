package recipe

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/ashlar-os/ashlar/internal/limited"
)

// Limits on what is read from outside.
const (
	maxFileSize = 1 << 20 // bytes of one recipe
	maxLockSize = 16 << 20
	maxIncludes = 64 // files in one recipe
)

// Load reads the recipe at path and everything it includes, merges them and
// checks the whole. Its errors are of type *Error where a line is to blame.
func Load(path string) (*Recipe, error) {
	l := &loader{}
	r, err := l.load(path, nil)
	if err != nil {
		return nil, err
	}
	r.setDefaults()
	if err := r.complete(path); err != nil {
		return nil, err
	}
	return r, nil
}

type loader struct{ files int }

// load reads one file; chain is the files that led to it.
func (l *loader) load(path string, chain []string) (*Recipe, error) {
	path = filepath.Clean(path)
	if i := slices.Index(chain, path); i >= 0 {
		return nil, fmt.Errorf("%q includes itself: %s", path, strings.Join(append(chain[i:], path), " → "))
	}
	if l.files++; l.files > maxIncludes {
		return nil, fmt.Errorf("%q: a recipe is made of at most %d files", path, maxIncludes)
	}
	data, err := limited.File(path, maxFileSize)
	if err != nil {
		return nil, err
	}
	own, err := parse(path, data)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	merged := &Recipe{}
	for _, inc := range own.Include {
		r, err := l.load(filepath.Join(dir, inc), append(slices.Clip(chain), path))
		if err != nil {
			return nil, err
		}
		merged.merge(r)
	}
	own.Include = nil
	own.resolvePaths(dir)
	merged.merge(own)
	return merged, nil
}

// parse decodes and checks one file by itself, before anything is merged.
func parse(path string, data []byte) (*Recipe, error) {
	src := newSource(path, data)
	var r Recipe
	dec := toml.NewDecoder(strings.NewReader(string(data))).DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return nil, src.decodeError(err)
	}
	if err := r.check(src); err != nil {
		return nil, err
	}
	return &r, nil
}

// resolvePaths makes paths on the publisher's machine relative to dir, the
// directory of the file that names them.
func (r *Recipe) resolvePaths(dir string) {
	join := func(p *string) {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	join(&r.Base.Keys)
	join(&r.Base.Path)
	join(&r.Trust.Root)
	for i := range r.Health.Checks {
		join(&r.Health.Checks[i])
	}
	if rest, ok := strings.CutPrefix(r.Base.Image, "oci:"); ok && !filepath.IsAbs(rest) {
		r.Base.Image = "oci:" + filepath.Join(dir, rest)
	}
	for i := range r.Base.Repositories {
		join(&r.Base.Repositories[i].Keys)
	}
	for i := range r.Files {
		join(&r.Files[i].Source)
	}
	for i := range r.Run {
		join(&r.Run[i].Source)
	}
}

// decodeError turns an error of the TOML decoder into one with a line.
func (s *source) decodeError(err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		first := &strict.Errors[0]
		line, _ := first.Position()
		return s.errorAt(line, "unknown key %q", strings.Join(first.Key(), "."))
	}
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		line, _ := decode.Position()
		return s.errorAt(line, "%s", strings.TrimPrefix(decode.Error(), "toml: "))
	}
	return fmt.Errorf("%q: %w", s.path, err)
}
