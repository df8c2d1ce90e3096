package trust

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"

	"github.com/ashlar-os/ashlar/internal/limited"
)

// Ask is a question for a passphrase.
type Ask struct {
	File  string // the key's file
	Role  string // what the key is for, such as "targets"
	New   bool   // the passphrase is being chosen: ask twice
	Again bool   // the answer before did not open the file; the same one again ends the asking
}

// Passphrase answers questions for passphrases.
type Passphrase func(Ask) ([]byte, error)

// keyFile is a private key on the disk: JSON, mode 0600. The public half is in
// the clear, so that keys can be listed without passphrases; the private half,
// the 32 bytes of an ed25519 seed, is sealed by the box that go-tuf's own tools
// use: scrypt (N=2^16, r=8, p=1) and NaCl's secretbox.
type keyFile struct {
	Schema    int             `json:"schema"`
	Role      string          `json:"role"`
	KeyID     string          `json:"keyid"`
	Public    string          `json:"public"` // 64 hexadecimal digits
	Encrypted json.RawMessage `json:"encrypted"`
}

const maxKeyFile = 64 << 10

// readKeyFile reads what is in the clear. A private key that others can read is
// refused, not mended: who knows who did.
func readKeyFile(path string) (*keyFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("key file %q can be read by others (mode %04o): chmod 600 it, and replace the key if somebody may have", path, mode)
	}
	data, err := limited.File(path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	k := &keyFile{}
	if err := json.Unmarshal(data, k); err != nil || k.Schema != 1 {
		return nil, fmt.Errorf("%q is not a key file of ashlar", path)
	}
	public, err := hex.DecodeString(k.Public)
	if err != nil || len(public) != ed25519.PublicKeySize || KeyID(public) != k.KeyID {
		return nil, fmt.Errorf("key file %q: its id is not that of its public key", path)
	}
	return k, nil
}

// open decrypts the private half.
func (k *keyFile) open(path string, passphrase Passphrase) (Signer, error) {
	if passphrase == nil {
		return nil, fmt.Errorf("key file %q needs a passphrase, and there is nobody to ask", path)
	}
	seed, err := k.decrypt(path, passphrase)
	if err != nil {
		return nil, err
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("key file %q holds no ed25519 key", path)
	}
	private := ed25519.NewKeyFromSeed(seed)
	clear(seed)
	signer := fileSigner{private}
	if signer.KeyID() != k.KeyID {
		return nil, fmt.Errorf("key file %q: its private half is not that of its public key", path)
	}
	return signer, nil
}

// maxTries is how often the passphrase of one file is asked for.
const maxTries = 4

// decrypt asks until an answer opens the file, or there is no other answer.
func (k *keyFile) decrypt(path string, passphrase Passphrase) ([]byte, error) {
	var before []byte
	for try := range maxTries {
		words, err := passphrase(Ask{File: path, Role: k.Role, Again: try > 0})
		if err != nil {
			return nil, fmt.Errorf("passphrase of key file %q: %w", path, err)
		}
		if try > 0 && bytes.Equal(words, before) {
			break
		}
		if seed, err := encrypted.Decrypt(k.Encrypted, words); err == nil {
			return seed, nil
		}
		before = bytes.Clone(words)
	}
	return nil, fmt.Errorf("the passphrase does not open key file %q", path)
}

// newKeyFile makes a key and writes it to path, where nothing may be yet.
func newKeyFile(path, role string, passphrase Passphrase) (Signer, error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("key file %q exists, and keys are never overwritten", path)
	}
	if passphrase == nil {
		return nil, fmt.Errorf("key file %q needs a passphrase, and there is nobody to ask", path)
	}
	words, err := passphrase(Ask{File: path, Role: role, New: true})
	if err != nil {
		return nil, fmt.Errorf("passphrase of key file %q: %w", path, err)
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("the passphrase of key file %q is empty", path)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	box, err := encrypted.Encrypt(private.Seed(), words)
	if err != nil {
		return nil, fmt.Errorf("encrypting key file %q: %w", path, err)
	}
	k := keyFile{Schema: 1, Role: role, KeyID: KeyID(public), Public: hex.EncodeToString(public), Encrypted: box}
	data, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := publishFile(path, append(data, '\n'), 0o600); err != nil {
		return nil, err
	}
	return fileSigner{private}, nil
}

// fileSigner is a private key in memory.
type fileSigner struct{ private ed25519.PrivateKey }

func (s fileSigner) Public() ed25519.PublicKey { return s.private.Public().(ed25519.PublicKey) }
func (s fileSigner) KeyID() string             { return KeyID(s.Public()) }

func (s fileSigner) Sign(_ context.Context, message []byte) ([]byte, error) {
	return ed25519.Sign(s.private, message), nil
}
