package trust

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// MergeRoot takes the signatures of requests for the next root, and makes that
// the keyring's newest when there are enough of them. Each holder may have
// signed a copy of their own.
func (k *Keyring) MergeRoot(requests ...*Request) error {
	var next *rootFile
	for _, r := range requests {
		p, err := r.verified(k)
		if err != nil {
			return err
		}
		switch {
		case p.next == nil:
			return errors.New("the request is for a repository, not for a root")
		case p.next.Signed.Version != k.root.Signed.Version+1:
			return fmt.Errorf("root %d does not follow root %d in %q", p.next.Signed.Version, k.root.Signed.Version, k.dir)
		case next == nil:
			next = p.next
			sigs := next.Signatures
			next.Signatures = nil
			addValid(p.root, next, sigs)
			continue
		case !sameContent(next.Signed, p.next.Signed):
			return errors.New("the requests are for different roots")
		}
		addValid(p.root, next, p.next.Signatures)
	}
	if next == nil {
		return errors.New("there is no request")
	}
	return (&RootChange{keys: k, next: next}).Commit()
}

// addValid adds those signatures that old or new holders made, each once.
func addValid(old, next *rootFile, sigs []metadata.Signature) {
	for _, sig := range sigs {
		alone := &rootFile{Signed: next.Signed, Signatures: []metadata.Signature{sig}}
		for _, root := range []*rootFile{old, next} {
			ids, _ := rootRole(root, RoleRoot)
			there := slices.ContainsFunc(next.Signatures, func(s metadata.Signature) bool { return s.KeyID == sig.KeyID })
			if !there && len(signers(alone, ids, root.Signed.Keys)) == 1 {
				next.Signatures = append(next.Signatures, sig)
			}
		}
	}
}

// Merge takes a request back that was made from the repository as it still is.
// What was not signed elsewhere, Sign signs with the keys that are here.
func (e *Editor) Merge(r *Request) error {
	p, err := r.verified(e.keys)
	if err != nil {
		return err
	}
	switch {
	case p.next != nil:
		return errors.New("the request is for a root, not for a repository")
	case r.Repository != e.opts.Repository:
		return fmt.Errorf("the request is for the repository %q, not for %q", r.Repository, e.opts.Repository)
	case !e.unmoved(r):
		return fmt.Errorf("the repository %q has changed since the request was made: make it again", e.opts.Repository)
	}
	if p.signTargets {
		ids, threshold := rootRole(e.root, RoleTargets)
		e.targets = p.targets
		e.merged[RoleTargets] = len(signers(p.targets, ids, e.root.Signed.Keys)) >= threshold
		e.renew[RoleTargets] = true
	}
	if p.signChannels {
		d := e.targets.Signed.Delegations
		e.channels = p.channels
		e.merged[RoleChannels] = len(signers(p.channels, d.Roles[0].KeyIDs, d.Keys)) >= d.Roles[0].Threshold
		e.renew[RoleChannels] = true
	}
	return nil
}

// unmoved says whether the request was made from what the editor opened.
func (e *Editor) unmoved(r *Request) bool {
	if e.before == nil {
		return len(r.Before) == 0
	}
	for role, now := range map[string]*targetsFile{RoleTargets: e.before.targets, RoleChannels: e.before.channels} {
		then, err := new(targetsFile).FromBytes(r.Before[role])
		if err != nil || !sameContent(then.Signed, now.Signed) {
			return false
		}
	}
	return true
}

// sameContent compares what is signed, to the byte of its canonical form.
func sameContent(a, b any) bool {
	x, err := cjson.EncodeCanonical(a)
	if err != nil {
		return false
	}
	y, err := cjson.EncodeCanonical(b)
	return err == nil && bytes.Equal(x, y)
}
