package trust

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Sign signs everything that changed, snapshot and timestamp in any case, and
// returns every file that the repository must hold then. What it returns was
// verified as a machine would verify it.
func (e *Editor) Sign(ctx context.Context) (Files, error) {
	if err := e.mustHaveKeys(); err != nil {
		return nil, err
	}
	files := e.keys.rootFiles()
	if e.before != nil {
		for name, data := range e.before.files {
			if _, ok := files[name]; !ok && roleOf(name) == RoleRoot {
				files[name] = data
			}
		}
	}
	snapshot := metadata.Snapshot()
	snapshot.Signed.Meta = map[string]*metadata.MetaFiles{}
	keys, ids, threshold := e.targetsKeys()
	data, err := e.signTargets(ctx, RoleTargets, e.targets, keys, ids, threshold)
	if err != nil {
		return nil, err
	}
	addMeta(files, snapshot.Signed.Meta, RoleTargets, e.targets.Signed.Version, data)
	keys, ids, threshold = e.channelsKeys()
	if data, err = e.signTargets(ctx, RoleChannels, e.channels, keys, ids, threshold); err != nil {
		return nil, err
	}
	addMeta(files, snapshot.Signed.Meta, RoleChannels, e.channels.Signed.Version, data)

	now := clockOr(e.opts.Now)
	at := map[string]any{signedAt: now.Format(time.RFC3339)}
	stamp := metadata.Timestamp()
	stamp.Signed.Meta = map[string]*metadata.MetaFiles{}
	snapshot.Signed.UnrecognizedFields, stamp.Signed.UnrecognizedFields = at, at
	snapshot.Signed.Expires = now.Add(e.opts.Expiry.of(RoleSnapshot))
	stamp.Signed.Expires = now.Add(e.opts.Expiry.of(RoleTimestamp))
	var last [2]int64
	if e.before != nil {
		last = [2]int64{e.before.snapshot.Signed.Version, e.before.stamp.Signed.Version}
	}
	if snapshot.Signed.Version, err = e.number(RoleSnapshot, last[0]); err != nil {
		return nil, err
	}
	if stamp.Signed.Version, err = e.number(RoleTimestamp, last[1]); err != nil {
		return nil, err
	}
	if data, err = signOnline(ctx, snapshot, e.root, RoleSnapshot, e.keys); err != nil {
		return nil, err
	}
	addMeta(files, stamp.Signed.Meta, RoleSnapshot, snapshot.Signed.Version, data)
	if data, err = signOnline(ctx, stamp, e.root, RoleTimestamp, e.keys); err != nil {
		return nil, err
	}
	files[stampName] = data
	if err := e.verify(ctx, files); err != nil {
		return nil, fmt.Errorf("what was signed does not verify: %w", err)
	}
	e.signed = files
	return files, nil
}

// verify is a machine's view of the result, from the first root on.
func (e *Editor) verify(ctx context.Context, files Files) error {
	c := e.client()
	w := &walk{src: files, kept: &accepted{}, clock: c.time}
	if err := w.run(ctx, c.Root); err != nil {
		return err
	}
	_, err := newView(w, Target{})
	return err
}

// Published tells the publisher's memory that the files which Sign returned are
// in the repository now.
func (e *Editor) Published(ctx context.Context) error {
	if e.signed == nil {
		return errors.New("nothing was signed")
	}
	_, err := e.client().refresh(ctx, e.signed, timeless)
	return err
}

func (e *Editor) targetsKeys() (map[string]*metadata.Key, []string, int) {
	ids, threshold := rootRole(e.root, RoleTargets)
	return e.root.Signed.Keys, ids, threshold
}

func (e *Editor) channelsKeys() (map[string]*metadata.Key, []string, int) {
	d := e.targets.Signed.Delegations
	return d.Keys, d.Roles[0].KeyIDs, d.Roles[0].Threshold
}

// due says whether a role's file must be signed again: it changed, or was asked
// for, or the keys that may sign it were replaced.
func (e *Editor) due(role string) bool {
	if e.before == nil || e.renew[role] {
		return true
	}
	file, before := e.targets, e.before.targets
	keys, ids, threshold := e.targetsKeys()
	if role == RoleChannels {
		file, before = e.channels, e.before.channels
		keys, ids, threshold = e.channelsKeys()
	}
	return !sameSigned(file, before) || len(signers(file, ids, keys)) < threshold
}

// sameSigned compares what two files say, but for number and expiry.
func sameSigned(a, b *targetsFile) bool {
	plain := func(f *targetsFile) string {
		s := f.Signed
		s.Version, s.Expires = 0, time.Time{}
		data, err := cjson.EncodeCanonical(s)
		if err != nil {
			return err.Error()
		}
		return string(data)
	}
	return plain(a) == plain(b)
}

// signTargets returns the bytes of targets.json or channels.json: those that
// are there when they are still good, or newly signed ones.
func (e *Editor) signTargets(ctx context.Context, role string, file *targetsFile, keys map[string]*metadata.Key, ids []string, threshold int) ([]byte, error) {
	if !e.due(role) {
		return e.before.file(role), nil
	}
	if !e.merged[role] { // those were signed elsewhere
		if err := e.date(role, file); err != nil {
			return nil, err
		}
		if err := sign(ctx, file, ids, keys, threshold, e.keys); err != nil {
			return nil, err
		}
	}
	return encode(file)
}

// date gives a file that is to be signed its number and its expiry.
func (e *Editor) date(role string, file *targetsFile) error {
	last := int64(0)
	if e.before != nil {
		last = map[string]*targetsFile{RoleTargets: e.before.targets, RoleChannels: e.before.channels}[role].Signed.Version
	}
	version, err := e.number(role, last)
	if err != nil {
		return err
	}
	file.Signed.Version, file.Signed.Expires = version, expires(e.opts.Now, e.opts.Expiry.of(role))
	file.ClearSignatures()
	return nil
}

// number returns the number after the last one. When a thief has signed the
// highest there is, nothing could follow; but machines forget the numbers when
// the keys of snapshot or timestamp are replaced, so then it begins again.
func (e *Editor) number(role string, last int64) (int64, error) {
	switch {
	case last < maxVersion:
		return last + 1, nil
	case onlineKeys(e.before.root) != onlineKeys(e.root):
		return 1, nil
	}
	return 0, fmt.Errorf("the %s of the repository %q has the highest number there is, which only a thief of its key can have signed: "+
		"replace the keys of snapshot and timestamp, and of %s", role, e.opts.Repository, role)
}

// mustHaveKeys says which keys are missing before anybody types a passphrase.
func (e *Editor) mustHaveKeys() error {
	have := func(ids []string) (n int) {
		for _, id := range ids {
			if e.keys.Has(id) {
				n++
			}
		}
		return n
	}
	_, ids, threshold := e.targetsKeys()
	if e.due(RoleTargets) && !e.merged[RoleTargets] && have(ids) < threshold {
		return e.lacks(RoleTargets)
	}
	_, ids, threshold = e.channelsKeys()
	if e.due(RoleChannels) && !e.merged[RoleChannels] && have(ids) < threshold {
		return e.lacks(RoleChannels)
	}
	for _, role := range []string{RoleSnapshot, RoleTimestamp} {
		if ids, threshold := rootRole(e.root, role); have(ids) < threshold {
			return e.lacks(role)
		}
	}
	return nil
}

func (e *Editor) lacks(role string) error {
	return fmt.Errorf("the %s of the repository %q must be signed, and %q does not hold its key: %w", role, e.opts.Repository, e.keys.dir, ErrNoKey)
}

// addMeta adds a file, and says which one it is.
func addMeta(files Files, meta map[string]*metadata.MetaFiles, role string, version int64, data []byte) {
	sum := sha256.Sum256(data)
	files[FileName(role, version)] = data
	meta[role+".json"] = &metadata.MetaFiles{
		Version: version, Length: int64(len(data)), Hashes: metadata.Hashes{"sha256": sum[:]},
	}
}

func signOnline[T metadata.Roles](ctx context.Context, meta *metadata.Metadata[T], root *rootFile, role string, by Signers) ([]byte, error) {
	ids, threshold := rootRole(root, role)
	if err := sign(ctx, meta, ids, root.Signed.Keys, threshold, by); err != nil {
		return nil, err
	}
	return encode(meta)
}

func hexBytes(d digest.Digest) (metadata.HexBytes, error) {
	b, err := hex.DecodeString(d.Encoded())
	return metadata.HexBytes(b), err
}
