package trust

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/limited"
)

// Source is where metadata files come from. Nothing it says is believed.
type Source interface {
	// Names lists the files it has, as [FileName] names them.
	Names() []string
	// File returns the whole content of a file, or an error when that is
	// longer than limit bytes; it must not read more than that.
	File(ctx context.Context, name string, limit int64) ([]byte, error)
}

// Files is a source in memory, and what an editor makes: content by name.
type Files map[string][]byte

// Names implements [Source].
func (f Files) Names() []string { return slices.Sorted(maps.Keys(f)) }

// File implements [Source].
func (f Files) File(_ context.Context, name string, limit int64) ([]byte, error) {
	data, ok := f[name]
	if !ok {
		return nil, fmt.Errorf("file %q: %w", name, fs.ErrNotExist)
	}
	if int64(len(data)) > limit {
		return nil, tooLong(name, limit)
	}
	return data, nil
}

// Dir is a source over the files of a directory, as a stick or an offline
// bundle carries them.
func Dir(path string) Source { return dirSource(path) }

type dirSource string

func (d dirSource) Names() []string {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasSuffix(e.Name(), ".json") {
			names = append(names, e.Name())
		}
	}
	return names
}

func (d dirSource) File(_ context.Context, name string, limit int64) ([]byte, error) {
	data, err := limited.File(filepath.Join(string(d), name), limit)
	if errors.Is(err, limited.ErrTooLong) {
		return nil, tooLong(name, limit)
	}
	return data, err
}
