package keyfile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.key")
	secret := []byte("a private key")
	say := func(words string) func() ([]byte, error) {
		return func() ([]byte, error) { return []byte(words), nil }
	}
	if err := Write(path, secret, nil); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("an empty passphrase: %v", err)
	}
	if err := Write(path, secret, []byte("words")); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, secret, []byte("words")); !errors.Is(err, os.ErrExist) {
		t.Errorf("writing over a key: %v", err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	file, err := os.ReadFile(path)
	if err != nil || bytes.Contains(file, secret) {
		t.Errorf("the file holds the secret: %v", err)
	}
	if got, err := Read(path, say("words")); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("read back: %q, %v", got, err)
	}
	if _, err := Read(path, say("other words")); !errors.Is(err, ErrPassphrase) {
		t.Errorf("a wrong passphrase: %v", err)
	}
	asked := errors.New("nobody at the terminal")
	if _, err := Read(path, func() ([]byte, error) { return nil, asked }); !errors.Is(err, asked) {
		t.Errorf("no passphrase: %v", err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path, say("words")); err == nil || !strings.Contains(err.Error(), "read by others") {
		t.Errorf("a key that the group can read: %v", err)
	}
}

func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.key")
	for _, text := range []string{"", "-----BEGIN PRIVATE KEY-----", strings.Repeat("{", maxFile+1), "{}",
		`{"kdf":{"name":"scrypt","params":{"N":1073741824,"r":8,"p":1}}}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path, func() ([]byte, error) { return []byte("words"), nil }); err == nil {
			t.Errorf("%.40q was read", text)
		}
	}
}
