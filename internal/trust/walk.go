package trust

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

// walk is one run of the client's workflow, section 5 of the TUF specification
// (https://theupdateframework.github.io/specification/latest/#detailed-client-workflow).
// Signatures, numbers and expiry are go-tuf's to judge; what is fetched, what it
// is compared with, and what a person is told is here.
type walk struct {
	src   Source
	kept  *accepted
	clock func(*accepted) time.Time // the time that counts, knowing what was accepted

	names    []string // what the source has
	tuf      *trustedmetadata.TrustedMetadata
	now      time.Time
	files    Files  // everything that was verified, roots after the first included
	rootData []byte // the newest root
	newRoots bool   // some of those roots were not kept before
	damage   error  // why what was kept could not be used
}

func (w *walk) run(ctx context.Context, first []byte) error {
	w.files = Files{}
	w.names = w.src.Names()
	steps := []func(context.Context) error{w.roots, w.timestamp, w.snapshot, w.targets, w.channels}
	if err := w.firstRoot(first); err != nil {
		return err
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// firstRoot is 5.2: the root that came with the image is where trust begins.
func (w *walk) firstRoot(data []byte) error {
	root, err := decodeRoot(data)
	if err != nil {
		return fmt.Errorf("the first root: %w", err)
	}
	tuf, err := trustedmetadata.New(data)
	if err != nil {
		role := root.Signed.Roles[RoleRoot]
		return untrusted("the first root is signed by %d of its holders, and %d must",
			len(signers(root, role.KeyIDs, root.Signed.Keys)), role.Threshold)
	}
	w.tuf, w.rootData = tuf, data
	// An older image, to which a machine may go back, begins with an older root:
	// those before this one stay, for it to verify.
	w.files[FileName(RoleRoot, root.Signed.Version)] = data
	for name, older := range w.kept.files {
		if v, ok := rootNumber(name); ok && v < root.Signed.Version {
			w.files[name] = older
		}
	}
	// What was kept expired long ago, maybe, and is still good to compare with.
	w.tuf.RefTime = time.Time{}
	return nil
}

// roots is 5.3: one root after the other, each signed by the threshold of the
// one before and by its own. Those that were kept come first: they cost no request.
func (w *walk) roots(ctx context.Context) error {
	for steps := 0; ; steps++ {
		name := FileName(RoleRoot, w.tuf.Root.Signed.Version+1)
		data, ok := w.kept.files[name]
		if ok {
			if err := w.nextRoot(data); err != nil {
				// The disk, or an image of other people: begin again, as on the first day.
				w.damage = fmt.Errorf("the accepted %q does not follow from this image's root: %w", name, err)
				*w.kept = accepted{note: note{At: w.kept.At}}
				continue
			}
			w.files[name] = data
			continue
		}
		if !slices.Contains(w.names, name) {
			break
		}
		if steps >= maxRootSteps {
			return untrusted("the root of this repository was replaced more than %d times", maxRootSteps)
		}
		data, err := w.read(ctx, RoleRoot, name)
		if err != nil {
			return err
		}
		if err := w.nextRoot(data); err != nil {
			return err
		}
		w.files[name] = data
		w.newRoots = true
	}
	w.kept.reconcile(w.tuf.Root)
	return nil
}

func (w *walk) nextRoot(data []byte) error {
	next, err := decodeRoot(data)
	if err != nil {
		return err
	}
	if _, err = w.tuf.UpdateRoot(data); err != nil {
		return w.explainRoot(next, err)
	}
	w.rootData = data
	return nil
}

// timestamp is 5.4. The kept one comes first: the new one may not be older, nor
// another one with the same number.
func (w *walk) timestamp(ctx context.Context) error {
	kept, ok := w.kept.files[stampName]
	if ok {
		if meta, err := decodeTimestamp(kept); err != nil {
			w.damage = err
		} else if _, err := w.tuf.UpdateTimestamp(kept); err != nil {
			w.damage = w.explain(RoleTimestamp, err)
		} else {
			w.kept.signedAt, _ = readSignedAt(meta.Signed.UnrecognizedFields)
		}
		if w.tuf.Timestamp == nil {
			*w.kept = accepted{note: note{At: w.kept.At}}
		}
	}
	w.now = w.clock(w.kept)
	w.tuf.RefTime = w.now
	if root := w.tuf.Root.Signed; root.IsExpired(w.now) { // 5.3.10
		return stale(RoleRoot, root.Expires, w.now)
	}
	if !slices.Contains(w.names, stampName) {
		return untrusted("this repository has no %q", stampName)
	}
	data, err := w.read(ctx, RoleTimestamp, stampName)
	if err != nil {
		return err
	}
	meta, err := decodeTimestamp(data)
	if err != nil {
		return err
	}
	if w.tuf.Timestamp == nil || string(data) != string(kept) {
		if _, err := w.tuf.UpdateTimestamp(data); err != nil {
			return w.explainTimestamp(meta, err)
		}
	} else if meta.Signed.IsExpired(w.now) { // nothing new, for too long: a freeze
		return stale(RoleTimestamp, meta.Signed.Expires, w.now)
	}
	// It was signed after everything it names, and it is no later than now.
	if at, _ := readSignedAt(meta.Signed.UnrecognizedFields); at.After(w.now) && !w.now.IsZero() {
		w.now = at.UTC()
		w.tuf.RefTime = w.now
		if root := w.tuf.Root.Signed; root.IsExpired(w.now) {
			return stale(RoleRoot, root.Expires, w.now)
		}
	}
	w.files[stampName] = data
	return nil
}

// snapshot is 5.5.
func (w *walk) snapshot(ctx context.Context) error {
	meta := w.tuf.Timestamp.Signed.Meta[RoleSnapshot+".json"]
	if kept := w.kept.find(RoleSnapshot); kept != nil {
		// Only to compare with: that it has expired, or is not the one that the
		// new timestamp names, is what one expects of it.
		if _, err := decodeSnapshot(kept); err != nil {
			w.damage = err
		} else if _, err := w.tuf.UpdateSnapshot(kept, true); err != nil && w.tuf.Snapshot == nil {
			w.damage = w.explain(RoleSnapshot, err)
		}
	}
	data, err := w.named(ctx, RoleSnapshot, RoleTimestamp, meta)
	if err != nil {
		return err
	}
	next, err := decodeSnapshot(data)
	if err != nil {
		return err
	}
	if next.Signed.Version != meta.Version {
		return mixed(RoleSnapshot, RoleTimestamp)
	}
	_, err = w.tuf.UpdateSnapshot(data, false)
	if errors.Is(err, &metadata.ErrExpiredMetadata{}) {
		return stale(RoleSnapshot, next.Signed.Expires, w.now)
	}
	return w.explain(RoleSnapshot, err)
}

// targets and channels are 5.6.
func (w *walk) targets(ctx context.Context) error {
	return w.target(ctx, RoleTargets, RoleRoot, decodeTargets)
}

func (w *walk) channels(ctx context.Context) error {
	return w.target(ctx, RoleChannels, RoleTargets, decodeChannels)
}

func (w *walk) target(ctx context.Context, role, delegator string, decode func([]byte) (*targetsFile, error)) error {
	meta := w.tuf.Snapshot.Signed.Meta[role+".json"]
	data, err := w.named(ctx, role, RoleSnapshot, meta)
	if err != nil {
		return err
	}
	next, err := decode(data)
	if err != nil {
		return err
	}
	if next.Signed.Version != meta.Version {
		return mixed(role, RoleSnapshot)
	}
	_, err = w.tuf.UpdateDelegatedTargets(data, role, delegator)
	if errors.Is(err, &metadata.ErrExpiredMetadata{}) {
		return stale(role, next.Signed.Expires, w.now)
	}
	return w.explain(role, err)
}

// named reads the file that another one names by number, length and sha256:
// from what was kept, when it is the same, or else from the source.
func (w *walk) named(ctx context.Context, role, by string, meta *metadata.MetaFiles) ([]byte, error) {
	name := FileName(role, meta.Version)
	matches := func(data []byte) bool {
		sum := sha256.Sum256(data)
		return int64(len(data)) == meta.Length && string(sum[:]) == string(meta.Hashes["sha256"])
	}
	data, ok := w.kept.files[name]
	if !ok || !matches(data) {
		if !slices.Contains(w.names, name) {
			return nil, untrusted("this repository has no %q, which its %s names", name, by)
		}
		var err error
		if data, err = w.read(ctx, role, name); err != nil {
			return nil, err
		}
		if !matches(data) {
			return nil, mixed(role, by)
		}
	}
	w.files[name] = data
	return data, nil
}

func (w *walk) read(ctx context.Context, role, name string) ([]byte, error) {
	data, err := w.src.File(ctx, name, limit(role))
	if err != nil {
		return nil, fmt.Errorf("reading %q of the repository: %w", name, err)
	}
	if int64(len(data)) > limit(role) {
		return nil, tooLong(name, limit(role))
	}
	return data, nil
}

// find returns the one file of a role among those that were kept.
func (a *accepted) find(role string) []byte {
	for name, data := range a.files {
		if kind := roleOf(name); kind == role {
			return data
		}
	}
	return nil
}
