package update

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/registry"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// RootPath is where an image has the root of the keys that its machines believe.
const RootPath = "/usr/lib/ashlar/trust/root.json"

// MaxRoot is how much is read of that file, bytes.
const MaxRoot = 512 << 10

// maxTargets is how much is read of a list of releases to see what it is of, bytes.
const maxTargets = 5 << 20

// ErrNoRoot is an image that knows no keys.
var ErrNoRoot = errors.New("no publisher's keys are known here")

// noRootError says which image that is, and what would help.
type noRootError struct{ id string }

func (e *noRootError) Error() string {
	return fmt.Sprintf("%s takes no updates: its image has no %q, so nobody's signature means anything to it", e.id, RootPath)
}
func (e *noRootError) Is(target error) bool { return target == ErrNoRoot }

// Hint is the cure, which is the publisher's.
func (e *noRootError) Hint() string {
	return "build the image with [trust] root in its recipe; ashlar switch --root FILE follows a publisher whose root.json is at hand"
}

// wrongAnswer is an answer of a repository that no honest one gives.
type wrongAnswer struct{ err error }

func (e *wrongAnswer) Error() string        { return e.err.Error() }
func (e *wrongAnswer) Unwrap() error        { return e.err }
func (e *wrongAnswer) Is(target error) bool { return target == trust.ErrUntrusted }

// answered sorts the errors of a registry: what was answered and is wrong is as
// good as a lie, whoever told it; that nothing was answered is none.
func answered(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || errors.Is(err, registry.ErrUnreachable) || errors.Is(err, registry.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return &wrongAnswer{err}
}

// statements is the signed metadata of a repository, each file read at most once.
type statements struct {
	*registry.Trust
	files trust.Files
}

func readStatements(ctx context.Context, repo *registry.Repository) (*statements, error) {
	list, err := repo.ReadTrust(ctx)
	if errors.Is(err, registry.ErrNoTrust) {
		return nil, &unsignedError{repo.Name, err}
	}
	if err != nil {
		return nil, answered(ctx, err)
	}
	return &statements{list, trust.Files{}}, nil
}

func (s *statements) File(ctx context.Context, name string, limit int64) ([]byte, error) {
	if _, ok := s.files[name]; !ok {
		b, err := s.Trust.File(ctx, name, limit)
		if err != nil {
			return nil, answered(ctx, err)
		}
		s.files[name] = b
	}
	return s.files.File(ctx, name, limit)
}

// unsignedError is a repository without signatures. It counts as a lie: one that
// could be left out by whoever stands in between would protect nobody.
type unsignedError struct {
	name string
	err  error
}

func (e *unsignedError) Error() string {
	return e.name + " is not signed, and nothing that is not signed is taken"
}
func (e *unsignedError) Unwrap() error        { return e.err }
func (e *unsignedError) Is(target error) bool { return target == trust.ErrUntrusted }

// Hint is what its publisher does.
func (e *unsignedError) Hint() string { return "its publisher signs it with ashlar publish --keys" }

// imageName says which image the metadata claims to be of, so that a person may
// switch to another without naming it twice. It is a guess that is verified: the
// client refuses metadata of any image but the one that was guessed.
func (s *statements) imageName(ctx context.Context, arch, likely string) string {
	names := s.Names()
	i := slices.IndexFunc(names, func(name string) bool { return strings.HasSuffix(name, "."+trust.RoleTargets+".json") })
	if i < 0 {
		return likely
	}
	b, err := s.File(ctx, names[i], maxTargets)
	if err != nil {
		return likely
	}
	var said struct {
		Signed struct {
			Targets map[string]json.RawMessage `json:"targets"`
		} `json:"signed"`
	}
	if json.Unmarshal(b, &said) != nil {
		return likely
	}
	first := ""
	for path := range said.Signed.Targets {
		parts := strings.Split(path, "/")
		switch {
		case len(parts) != 4 || parts[0] != "releases" || parts[2] != arch || release.CheckName(parts[1]) != nil:
		case parts[1] == likely:
			return likely
		case first == "" || parts[1] < first:
			first = parts[1]
		}
	}
	if first == "" {
		return likely
	}
	return first
}

// publisherOf names a publisher whose root a person gave, for Origin.Publisher.
func publisherOf(root []byte) string {
	sum := sha256.Sum256(root)
	return hex.EncodeToString(sum[:6])
}

// memory is where the accepted metadata of a publisher's image is kept; empty
// where there is no disk yet.
func (m *Machine) memory(name string, origin store.Origin) string {
	if m.Store == nil {
		return ""
	}
	if origin.Publisher != "" {
		name += "-" + origin.Publisher
	}
	return filepath.Join(m.Store.TrustPath(), name)
}

// client believes what root says about the image name.
func (m *Machine) client(name string, origin store.Origin, root []byte, base *Deployment) *trust.Client {
	c := &trust.Client{
		Dir: m.memory(name, origin), Root: root, Now: m.Now,
		Image: trust.Target{Name: name, Architecture: m.arch()},
	}
	if base != nil {
		// A machine whose clock has forgotten everything knows at least that its
		// release was built in the past.
		c.Floor, _ = time.Parse(time.RFC3339, base.Created)
	}
	return c
}

// rootOf is the root in a deployment's image. Both ways it is sealed content:
// the running system's own file, or an object that the image names by digest.
func (m *Machine) rootOf(d *Deployment) ([]byte, error) {
	root := m.Root
	if d.Image != m.Running {
		var err error
		if root, err = m.readFromImage(d.Image, RootPath, MaxRoot); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("reading %q of %s: %w", RootPath, d.ID(), err)
		}
	}
	if len(root) == 0 {
		return nil, &noRootError{d.ID()}
	}
	return root, nil
}

// readFromImage reads a file of an image that is in the store.
func (m *Machine) readFromImage(d verity.Digest, path string, limit int64) ([]byte, error) {
	image, err := m.Store.ReadImage(d)
	if err != nil {
		return nil, err
	}
	n := image.Lookup(path)
	if n == nil || !n.Inode().IsRegular() {
		return nil, fs.ErrNotExist
	}
	n = n.Inode()
	if int64(n.Size) > limit {
		return nil, fmt.Errorf("it has %d bytes, the limit is %d", n.Size, limit)
	}
	if n.Digest.IsZero() {
		return n.Inline, nil
	}
	f, err := m.Store.OpenObject(n.Digest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
