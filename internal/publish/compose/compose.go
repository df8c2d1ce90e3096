package compose

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/publish/recipe"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// Options says what to compose and where to work.
type Options struct {
	Recipe   *recipe.Recipe
	Lock     *recipe.Lock // nil: resolve now, and give the lock back in Result
	Previous *recipe.Lock // when resolving: ids of users and groups to keep; may be nil
	Epoch    int64        // when resolving: the time of the new lock, seconds since 1970
	CacheDir string       // packages are kept here between builds
	WorkDir  string       // objects are spooled here; the caller removes it
	Agent    Agent
	Loader   func(program []byte) ([]byte, error) // signs systemd-boot; nil: it stays as it is
	Registry registry.Options                     // how the registry of a base image is reached
	Progress progress.Reporter                    // nil: nobody is told
}

// Agent names the programs that are installed into the image; an empty path
// installs nothing.
type Agent struct {
	Ashlar string // becomes /usr/bin/ashlar
}

// Package is one installed package.
type Package struct {
	Name, Version, Architecture string
}

// Result is a composed tree and what is known about it.
type Result struct {
	Tree          *tree.Tree   // Digest, Payload and Source, or Inline, set for every regular file
	Lock          *recipe.Lock // with the ids of this tree's users and groups
	Packages      []Package    // sorted by name
	KernelVersion string       // empty when the tree has no kernel
	Users, Groups map[string]uint32
	OSRelease     []byte // /usr/lib/os-release
}

// builder is one run of Compose.
type builder struct {
	o       Options
	lock    *recipe.Lock
	report  progress.Reporter
	spool   *spool
	scratch string // removed at the end; absolute
	result  *Result
}

// Compose makes the tree of a recipe: from the lock if there is one, else
// from what the repositories have now.
func Compose(ctx context.Context, o Options) (*Result, error) {
	r, err := compose(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("composing %q: %w", o.Recipe.Name, err)
	}
	return r, nil
}

func compose(ctx context.Context, o Options) (_ *Result, err error) {
	if o.Lock != nil {
		if err := CheckLock(o.Lock, o.Recipe); err != nil {
			return nil, err
		}
	}
	b := &builder{o: o, report: o.Progress, result: &Result{}}
	if b.report == nil {
		b.report = progress.None
	}
	work, err := filepath.Abs(o.WorkDir)
	if err != nil {
		return nil, err
	}
	if strings.ContainsAny(work, " \t\n\"'[]%") {
		return nil, fmt.Errorf("work directory %q: apt cannot use a path with such characters", work)
	}
	if b.spool, err = newSpool(filepath.Join(work, "objects")); err != nil {
		return nil, err
	}
	if b.scratch, err = os.MkdirTemp(work, "compose-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.removeScratch()) }()

	t, err := b.base(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.shape(t); err != nil {
		return nil, err
	}
	return b.result, nil
}

// A LockError says why a recipe cannot be built from the lock it was given with.
type LockError struct {
	problem string
	hint    string
}

func (e *LockError) Error() string { return e.problem }

// Hint is what would help.
func (e *LockError) Hint() string { return e.hint }

const renewLock = "--update-lock makes a new one, which keeps the ids of users and groups"

// CheckLock refuses a lock that was made from other inputs or under other
// rules. Its errors are of type *LockError.
func CheckLock(l *recipe.Lock, r *recipe.Recipe) error {
	switch {
	case l.Recipe != r.Name:
		return &LockError{fmt.Sprintf("the lock is of recipe %q", l.Recipe), "name another lock with --lock"}
	case l.Inputs != r.InputsDigest():
		return &LockError{"the lock does not fit the recipe any more: its base or packages changed", renewLock}
	case l.RuleSet != release.RuleSet:
		return &LockError{fmt.Sprintf("the lock is of rule-set %d, and this ashlar applies %d", l.RuleSet, release.RuleSet), renewLock}
	}
	return nil
}

// base gets the tree that the recipe starts from, its scripts run.
func (b *builder) base(ctx context.Context) (*tree.Tree, error) {
	r := b.o.Recipe
	if b.lock = b.o.Lock; b.lock == nil {
		b.lock = &recipe.Lock{}
		if r.Base.Kind == recipe.BaseDebian {
			b.report.Stage("resolving packages", 0, progress.Items)
			var err error
			if b.lock, err = resolve(ctx, r, filepath.Join(b.scratch, "apt")); err != nil {
				return nil, err
			}
		}
		b.lock.Schema, b.lock.RuleSet = recipe.LockSchema, release.RuleSet
		b.lock.Recipe, b.lock.Inputs, b.lock.Epoch = r.Name, r.InputsDigest(), b.o.Epoch
	} else {
		own := *b.o.Lock // the caller's is not written to
		b.lock = &own
	}
	switch r.Base.Kind {
	case recipe.BaseDebian:
		return b.debian(ctx)
	case recipe.BaseOCI:
		return b.oci(ctx)
	default:
		return b.directory(ctx)
	}
}

// shape turns the tree of the base into the tree of the image, in place.
func (b *builder) shape(t *tree.Tree) error {
	b.report.Stage("applying the tree rules", 0, progress.Items)
	steps := []struct {
		what string
		do   func(*tree.Tree) error
	}{
		{"leaving out what is not for an image", b.dropVolatile},
		{"excluding paths", b.exclude},
		{"setting accounts", b.setAccounts},
		{"adding files", b.addFiles},
		{"installing the agent", b.addAgent},
		{"adding the publisher's keys", b.addTrust},
		{"signing the loader", b.signLoader},
		{"switching services", b.setServices},
		{"naming the system", b.nameSystem},
		{"unpacking documentation", b.uncompressDocs},
		{"placing the kernel", b.placeKernel},
		{"moving the package database", b.movePackageDatabase},
		{"laying out the root", b.layOutRoot},
		{"moving /etc", b.moveEtc},
		{"making the factory copy of /var", b.makeFactory},
		{"setting times and links", b.normalise},
	}
	for _, s := range steps {
		if err := s.do(t); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	b.result.Tree, b.result.Lock = t, b.lock
	return nil
}
