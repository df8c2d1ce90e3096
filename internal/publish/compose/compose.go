package compose

import (
	"context"
	"errors"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/publish/recipe"
)

// RuleSet is the version of the tree rules that this package applies.
const RuleSet = 1

// Options says what to compose and where to work.
type Options struct {
	Recipe   *recipe.Recipe
	Lock     *recipe.Lock // nil: resolve now, and give the lock back in Result
	Previous *recipe.Lock // when resolving: ids of users and groups to keep; may be nil
	Epoch    int64        // when resolving: SOURCE_DATE_EPOCH of the new lock
	CacheDir string       // packages are kept here between builds
	WorkDir  string       // spool of objects; the caller removes it
	Agent    Agent
	Progress progress.Reporter // nil: nobody is told
}

// Agent names the programs that are installed into the image; empty paths install nothing.
type Agent struct {
	Ashlar string // becomes /usr/bin/ashlar
}

// Package is one installed package.
type Package struct {
	Name, Version, Architecture string
}

// Result is a composed tree and what is known about it.
type Result struct {
	Tree          *tree.Tree // Digest, Payload and Source, or Inline, set for every regular file
	Lock          *recipe.Lock
	Packages      []Package
	KernelVersion string // empty when the tree has no kernel
	Users, Groups map[string]uint32
	OSRelease     []byte
}

// Compose makes the tree of a recipe.
func Compose(ctx context.Context, o Options) (*Result, error) {
	return nil, errors.New("composing is not written yet")
}
