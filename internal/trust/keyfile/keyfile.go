// Package keyfile keeps a private key in a file that a passphrase opens.
//
// The file is JSON as go-securesystemslib writes it: a key made from the
// passphrase with scrypt (N 65536, r 8, p 1) closes a NaCl secret box. What is
// in the box is the caller's. Nobody but the owner may read the file, and one
// that others may read is refused: a copy of it is a guess at the passphrase
// away from the key.
package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
)

// maxFile limits a key's file, in bytes; one with RSA of 4096 bits has 5 KB.
const maxFile = 64 << 10

// ErrPassphrase is what errors.Is finds when a file is whole, but not opened by
// the passphrase.
var ErrPassphrase = errors.New("the passphrase is wrong, or the file is damaged")

// Write closes secret in a new file at path, which must not exist.
func Write(path string, secret, passphrase []byte) error {
	if len(passphrase) == 0 {
		return fmt.Errorf("writing key %q: the passphrase is empty", path)
	}
	closed, err := encrypted.Encrypt(secret, passphrase)
	if err != nil {
		return fmt.Errorf("writing key %q: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("writing key: %w", err)
	}
	_, err = f.Write(append(closed, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(path)
		return fmt.Errorf("writing key %q: %w", path, err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("writing key %q: %w", path, err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("writing key %q: %w", path, err)
	}
	return nil
}

// Read opens the file at path. passphrase is asked only for a file that is
// worth opening.
func Read(path string, passphrase func() ([]byte, error)) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	if mode := st.Mode(); !mode.IsRegular() || mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key %q can be read by others (mode %v): chmod 600 it, and think about who did", path, mode)
	}
	closed, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading key %q: %w", path, err)
	}
	if len(closed) > maxFile || !bytes.HasPrefix(closed, []byte("{")) {
		return nil, fmt.Errorf("%q is no key that ashlar wrote", path)
	}
	words, err := passphrase()
	if err != nil {
		return nil, err
	}
	secret, err := encrypted.Decrypt(closed, words)
	if err != nil {
		return nil, fmt.Errorf("opening key %q: %w", path, ErrPassphrase)
	}
	return secret, nil
}
