package trust

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// RootOptions are the choices of [Keyring.ChangeRoot].
type RootOptions struct {
	Expiry Expiry           // zero fields: DefaultExpiry
	Now    func() time.Time // nil: time.Now
}

// RootChange is the next root in the making. It counts when a threshold of the
// old holders and a threshold of the new ones have signed it; machines follow by
// themselves when it is published, which the next [Editor.Sign] of each
// repository does.
type RootChange struct {
	keys *Keyring
	next *rootFile
}

// ChangeRoot begins the next root: the newest one with the number that follows
// and a new expiry.
func (k *Keyring) ChangeRoot(opts RootOptions) (*RootChange, error) {
	next, err := decodeRoot(k.Root()) // a copy
	if err != nil {
		return nil, err
	}
	if k.root.Signed.Version >= maxVersion {
		return nil, fmt.Errorf("root %d is the last that can be", maxVersion)
	}
	next.Signed.Version++
	next.Signed.Expires = expires(opts.Now, opts.Expiry.of(RoleRoot))
	next.ClearSignatures()
	return &RootChange{keys: k, next: next}, nil
}

// Replace makes a new key for targets, snapshot or timestamp, and takes the old
// ones out. What the old keys signed is worth nothing once machines have the new
// root, so each repository must be signed again with the new key.
func (c *RootChange) Replace(role string) error {
	if !slices.Contains([]string{RoleTargets, RoleSnapshot, RoleTimestamp}, role) {
		return fmt.Errorf("the role %q has no key in the root that could be replaced as a whole", role)
	}
	old, _ := rootRole(c.next, role)
	signer, err := c.keys.newKey(role)
	if err != nil {
		return err
	}
	if err := c.next.Signed.AddKey(tufKey(signer.Public()), role); err != nil {
		return err
	}
	for _, id := range slices.Clone(old) {
		if err := c.next.Signed.RevokeKey(id, role); err != nil {
			return err
		}
	}
	return nil
}

// AddHolder makes a root key for one more holder.
func (c *RootChange) AddHolder() error {
	signer, err := c.keys.newKey(RoleRoot)
	if err != nil {
		return err
	}
	return c.next.Signed.AddKey(tufKey(signer.Public()), RoleRoot)
}

// RevokeHolder takes a root key out. As many must stay as have to sign.
func (c *RootChange) RevokeHolder(keyID string) error {
	ids, threshold := rootRole(c.next, RoleRoot)
	if !slices.Contains(ids, keyID) {
		return fmt.Errorf("root %d has no holder with the key %.12q", c.next.Signed.Version-1, keyID)
	}
	if len(ids) <= threshold {
		return fmt.Errorf("%d holders would be left, and %d must sign a root: add a holder or lower the threshold first", len(ids)-1, threshold)
	}
	return c.next.Signed.RevokeKey(keyID, RoleRoot)
}

// ReplaceHolder makes a new root key in the place of one.
func (c *RootChange) ReplaceHolder(keyID string) error {
	ids, _ := rootRole(c.next, RoleRoot)
	if !slices.Contains(ids, keyID) {
		return fmt.Errorf("root %d has no holder with the key %.12q", c.next.Signed.Version-1, keyID)
	}
	if err := c.AddHolder(); err != nil {
		return err
	}
	return c.RevokeHolder(keyID)
}

// SetThreshold says how many holders must sign a root from now on.
func (c *RootChange) SetThreshold(n int) error {
	ids, _ := rootRole(c.next, RoleRoot)
	if n < 1 || n > len(ids) {
		return fmt.Errorf("%d of %d holders cannot sign: the threshold must be between 1 and %d", n, len(ids), len(ids))
	}
	c.next.Signed.Roles[RoleRoot].Threshold = n
	return nil
}

// Changes says in words what the next root does.
func (c *RootChange) Changes() []string { return describeRoot(c.keys.root, c.next) }

// Sign adds the signatures of those keys that are here.
func (c *RootChange) Sign(ctx context.Context) error {
	return signRoot(ctx, c.keys.root, c.next, c.keys)
}

func signRoot(ctx context.Context, old, next *rootFile, by Signers) error {
	for _, root := range []*rootFile{old, next} {
		ids, threshold := rootRole(root, RoleRoot)
		if err := sign(ctx, next, ids, root.Signed.Keys, threshold, by); err != nil {
			return err
		}
	}
	return nil
}

// Missing says whose signatures the next root still needs; nothing when it can
// be committed.
func (c *RootChange) Missing() []string { return missingRoot(c.keys.root, c.next) }

func missingRoot(old, next *rootFile) []string {
	var missing []string
	for _, root := range []*rootFile{old, next} {
		ids, threshold := rootRole(root, RoleRoot)
		got := signers(next, ids, root.Signed.Keys)
		if len(got) >= threshold {
			continue
		}
		var who []string
		for _, id := range ids {
			if !slices.Contains(got, id) {
				who = append(who, id[:12]+"…")
			}
		}
		missing = append(missing, fmt.Sprintf("root %d needs %d more of the holders of root %d (keys %s)",
			next.Signed.Version, threshold-len(got), root.Signed.Version, strings.Join(who, ", ")))
	}
	return missing
}

// Commit makes the next root the keyring's newest.
func (c *RootChange) Commit() error {
	if missing := c.Missing(); len(missing) > 0 {
		return errors.New(strings.Join(missing, "; "))
	}
	data, err := encode(c.next)
	if err != nil {
		return err
	}
	if _, err := decodeRoot(data); err != nil {
		return fmt.Errorf("the next root: %w", err)
	}
	return c.keys.addRoot(c.next, data)
}

// ReplaceChannelsKey lets another key sign channels: the newest key file for
// channels, when the repository does not name that yet, or else a new one. The
// targets key must sign this.
func (e *Editor) ReplaceChannelsKey() error {
	d := e.targets.Signed.Delegations
	old := slices.Clone(d.Roles[0].KeyIDs)
	id, err := e.keys.newest(RoleChannels)
	if err != nil && !errors.Is(err, ErrNoKey) {
		return err
	}
	if err != nil || slices.Contains(old, id) {
		signer, err := e.keys.newKey(RoleChannels)
		if err != nil {
			return err
		}
		id = signer.KeyID()
	}
	key, err := e.keys.public(id)
	if err != nil {
		return err
	}
	if err := e.targets.Signed.AddKey(key, RoleChannels); err != nil {
		return err
	}
	for _, id := range old {
		if err := e.targets.Signed.RevokeKey(id, RoleChannels); err != nil {
			return err
		}
	}
	return nil
}

// Find returns the key that somebody means by a role ("targets"), the name of a
// file ("root-2", also where that is with its holder) or the beginning of an id.
func (k *Keyring) Find(what string) (Key, error) {
	keys, err := k.Keys()
	if err != nil {
		return Key{}, err
	}
	var found []Key
	for _, key := range keys {
		file := strings.TrimSuffix(filepath.Base(key.File), keySuffix)
		if key.File == "" && key.Holder > 0 {
			file = fmt.Sprintf("%s-%d", RoleRoot, key.Holder)
		}
		if key.Active && key.Role == what || file != "." && file == strings.TrimSuffix(what, keySuffix) ||
			len(what) >= 8 && strings.HasPrefix(key.ID, what) {
			found = append(found, key)
		}
	}
	switch active := slices.DeleteFunc(slices.Clone(found), func(k Key) bool { return !k.Active }); {
	case len(active) == 1:
		return active[0], nil
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		return Key{}, fmt.Errorf("no key in %q is called %.80q", k.dir, what)
	}
	return Key{}, fmt.Errorf("%.80q stands for %d keys in %q: name one by its file or its id", what, len(found), k.dir)
}
