package mediatest

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ashlar-os/ashlar/internal/trust"
)

// Publisher signs releases.
type Publisher struct {
	Keys *trust.Keyring
	t    testing.TB
}

// NewPublisher gives the publisher of all tests, with a directory of keys of its own.
func NewPublisher(t testing.TB) *Publisher { return acme().in(t) }

// NewStranger gives another publisher.
func NewStranger(t testing.TB) *Publisher { return stranger().in(t) }

var acme, stranger = sync.OnceValue(newKeys), sync.OnceValue(newKeys)

// keys are made once for all tests of a process: opening them is made to be slow.
type keys struct {
	files   map[string][]byte // of the directory
	signers []trust.Signer
	err     error
}

func passphrase(trust.Ask) ([]byte, error) { return []byte("swordfish"), nil }

func newKeys() *keys {
	k := &keys{files: map[string][]byte{}}
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		return &keys{err: err}
	}
	defer os.RemoveAll(dir)
	if k.err = k.fill(dir); k.err != nil {
		return k
	}
	for _, pattern := range []string{"*.json", "*.key", "roots/*"} {
		names, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				return &keys{err: err}
			}
			rel, _ := filepath.Rel(dir, name)
			k.files[rel] = b
		}
	}
	return k
}

func (k *keys) fill(dir string) error {
	ctx := context.Background()
	ring, err := trust.Init(ctx, dir, trust.InitOptions{Holders: 1, Threshold: 1, Passphrase: passphrase})
	if err != nil {
		return err
	}
	all, err := ring.Keys()
	if err != nil {
		return err
	}
	for _, key := range all {
		signer, err := ring.Signer(ctx, key.ID)
		if err != nil {
			return err
		}
		k.signers = append(k.signers, signer)
	}
	return nil
}

// in writes the keys into a directory of the test's.
func (k *keys) in(t testing.TB) *Publisher {
	t.Helper()
	must(t, k.err)
	dir := filepath.Join(t.TempDir(), "keys")
	for name, b := range k.files {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, b, 0o600))
	}
	ring, err := trust.OpenKeyring(dir, passphrase)
	must(t, err)
	for _, s := range k.signers {
		ring.Lend(s)
	}
	return &Publisher{ring, t}
}
