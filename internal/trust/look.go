package trust

import (
	"context"
	"slices"
)

// Look verifies what a source has, from the client's root on, whatever the time
// is, and accepts nothing: [View.Stale] says whether its time is over. The client
// need not say which image it means; see [View.Images] and [View.Of].
func (c *Client) Look(ctx context.Context, src Source) (*View, error) {
	look := *c
	look.Dir = ""
	return look.refresh(ctx, src, timeless)
}

// Images returns everything that the repository publishes, sorted.
func (v *View) Images() []Target { return v.images() }

// Of is the view of one image.
func (v *View) Of(image Target) (*View, error) {
	if err := v.mustPublish(image); err != nil {
		return nil, err
	}
	of := *v
	of.image = image
	return &of, nil
}

// Roots describes every root from first, with which the client began, to the
// newest. Their signers are those of the holders before (of the first: its own):
// they are why each is believed.
func (v *View) Roots(first []byte) ([]Signed, error) {
	root, err := decodeRoot(first)
	if err != nil {
		return nil, err
	}
	roots := []Signed{describeSigned(root, root)}
	for root.Signed.Version < v.root.Signed.Version {
		next, err := decodeRoot(v.files[FileName(RoleRoot, root.Signed.Version+1)])
		if err != nil {
			return nil, err
		}
		roots = append(roots, describeSigned(next, root))
		root = next
	}
	return roots, nil
}

// describeSigned describes a root, and who of the holders that another one names
// signed it.
func describeSigned(root, by *rootFile) Signed {
	ids, threshold := rootRole(root, RoleRoot)
	holders, _ := rootRole(by, RoleRoot)
	return Signed{
		Role: RoleRoot, Version: root.Signed.Version, Expires: root.Signed.Expires.UTC(), Threshold: threshold,
		Keys: slices.Clone(ids), Signers: signers(root, holders, by.Signed.Keys),
	}
}

// RootSigned describes the keyring's newest root.
func (k *Keyring) RootSigned() Signed { return describeSigned(k.root, k.root) }

// Roots returns every root of the keyring, the newest last.
func (k *Keyring) Roots() [][]byte {
	var roots [][]byte
	for _, data := range k.rawRoots() {
		roots = append(roots, data)
	}
	return roots
}

// Release returns a release that the editor would sign, or [ErrUnknown].
func (e *Editor) Release(version string) (Release, error) {
	r, _, err := e.release(version)
	return r, err
}

// Verify says whether a request may be shown to the holders of a keyring: it
// follows from their root, and its summary is what its files say.
func (r *Request) Verify(keys *Keyring) error {
	_, err := r.verified(keys)
	return err
}
