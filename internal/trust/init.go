package trust

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Expiry is for how long what is signed is good.
type Expiry struct {
	Root      time.Duration
	Targets   time.Duration // of channels too
	Snapshot  time.Duration
	Timestamp time.Duration
}

const day = 24 * time.Hour

// DefaultExpiry is what a publisher gets who says nothing: people renew root and
// targets, a machine renews snapshot and timestamp.
func DefaultExpiry() Expiry {
	return Expiry{Root: 2 * 365 * day, Targets: 365 * day, Snapshot: 14 * day, Timestamp: 7 * day}
}

func (e Expiry) of(role string) time.Duration {
	def := DefaultExpiry()
	pick := func(set, def time.Duration) time.Duration {
		if set > 0 {
			return set
		}
		return def
	}
	switch role {
	case RoleRoot:
		return pick(e.Root, def.Root)
	case RoleSnapshot:
		return pick(e.Snapshot, def.Snapshot)
	case RoleTimestamp:
		return pick(e.Timestamp, def.Timestamp)
	}
	return pick(e.Targets, def.Targets)
}

// InitOptions are the choices of [Init].
type InitOptions struct {
	Holders    int // who have a root key each
	Threshold  int // as many of them must sign a new root
	Passphrase Passphrase
	Expiry     Expiry           // zero fields: DefaultExpiry
	Now        func() time.Time // nil: time.Now
}

// Init makes a directory of keys and the first root, signed by its holders.
// Where keys are already it refuses to begin.
func Init(ctx context.Context, dir string, opts InitOptions) (*Keyring, error) {
	if opts.Holders < 1 || opts.Holders > maxKeys {
		return nil, fmt.Errorf("%d holders of root keys: there must be 1 to %d", opts.Holders, maxKeys)
	}
	if opts.Threshold < 1 || opts.Threshold > opts.Holders {
		return nil, fmt.Errorf("%d of %d holders cannot sign: the threshold must be between 1 and %d", opts.Threshold, opts.Holders, opts.Holders)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for _, name := range []string{newestRoot, rootsDir} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%q holds a %s already, and keys are never overwritten", dir, name)
		}
	}
	if taken, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*"+keySuffix)); err != nil || len(taken) > 0 {
		return nil, errors.Join(err, fmt.Errorf("%q holds keys already (%q), and they are never overwritten", dir, taken))
	}
	k := &Keyring{dir: dir, passphrase: opts.Passphrase, files: map[string]string{}, open: map[string]Signer{}, roots: map[int64][]byte{}}
	root := metadata.Root(expires(opts.Now, opts.Expiry.of(RoleRoot)))
	k.root = root
	for _, role := range []string{RoleRoot, RoleTargets, RoleChannels, RoleSnapshot, RoleTimestamp} {
		n := 1
		if role == RoleRoot {
			n = opts.Holders
		}
		for range n {
			signer, err := k.newKey(role)
			if err != nil {
				return nil, err
			}
			if role == RoleChannels {
				continue // named by targets
			}
			if err := root.Signed.AddKey(tufKey(signer.Public()), role); err != nil {
				return nil, err
			}
		}
	}
	root.Signed.Roles[RoleRoot].Threshold = opts.Threshold
	ids, _ := rootRole(root, RoleRoot)
	// Everybody's key is here and open now: all sign the first one.
	if err := sign(ctx, root, ids, root.Signed.Keys, len(ids), k); err != nil {
		return nil, err
	}
	data, err := encode(root)
	if err != nil {
		return nil, err
	}
	return k, k.addRoot(root, data)
}

// encode writes a file as it is published: the bytes that others hash.
func encode[T metadata.Roles](meta *metadata.Metadata[T]) ([]byte, error) { return meta.ToBytes(false) }

// expires returns a time after now, in whole seconds as TUF wants it.
func expires(now func() time.Time, after time.Duration) time.Time {
	return clockOr(now).Add(after)
}

func clockOr(now func() time.Time) time.Time {
	if now == nil {
		now = time.Now
	}
	return now().UTC().Truncate(time.Second)
}
