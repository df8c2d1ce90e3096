package trust

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Signer is one private key, wherever it lives: a file, a token, a service.
type Signer interface {
	Public() ed25519.PublicKey
	KeyID() string // see KeyID
	Sign(ctx context.Context, message []byte) ([]byte, error)
}

// Signers finds private keys. A [Keyring] is one.
type Signers interface {
	// Signer returns the private key of an id, or an ErrNoKey.
	Signer(ctx context.Context, keyID string) (Signer, error)
	// Has says whether Signer would find the key, without asking anybody for
	// a passphrase.
	Has(keyID string) bool
}

// ErrNoKey says that a private key is not here: it is somebody else's, or elsewhere.
var ErrNoKey = errors.New("the private key is not here")

// KeyID returns the name that TUF gives a public key: the sha256 of its
// canonical JSON.
func KeyID(public ed25519.PublicKey) string {
	id, err := tufKey(public).ID()
	if err != nil {
		panic(fmt.Sprintf("three strings have no JSON: %v", err))
	}
	return id
}

func tufKey(public ed25519.PublicKey) *metadata.Key {
	key, err := metadata.KeyFromPublicKey(crypto.PublicKey(public))
	if err != nil {
		panic(fmt.Sprintf("go-tuf knows ed25519 no more: %v", err))
	}
	return key
}

// sign adds to a file the signatures of those of the keys that are here and
// have not signed it, at most as many as are still wanted.
func sign[T metadata.Roles](ctx context.Context, meta *metadata.Metadata[T], ids []string, keys map[string]*metadata.Key, want int, by Signers) error {
	payload, err := cjson.EncodeCanonical(meta.Signed)
	if err != nil {
		return err
	}
	valid := signers(meta, ids, keys)
	for _, id := range ids {
		if len(valid) >= want {
			break
		}
		if slices.Contains(valid, id) || !by.Has(id) {
			continue
		}
		signer, err := by.Signer(ctx, id)
		if err != nil {
			return err
		}
		sig, err := signer.Sign(ctx, payload)
		if err != nil {
			return fmt.Errorf("signing with key %.12s…: %w", id, err)
		}
		meta.Signatures = slices.DeleteFunc(meta.Signatures, func(s metadata.Signature) bool { return s.KeyID == id })
		meta.Signatures = append(meta.Signatures, metadata.Signature{KeyID: id, Signature: sig})
		valid = append(valid, id)
	}
	return nil
}

// rootRole returns who may sign for a role: the keys, and how many of them must.
func rootRole(root *rootFile, name string) ([]string, int) {
	role := root.Signed.Roles[name]
	return role.KeyIDs, role.Threshold
}

// enough says whether as many of the keys as must have signed.
func enough[T metadata.Roles](meta *metadata.Metadata[T], root *rootFile, role string) bool {
	ids, threshold := rootRole(root, role)
	return len(signers(meta, ids, root.Signed.Keys)) >= threshold
}
