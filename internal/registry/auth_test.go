package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// swordfish is bcrypt of "swordfish".
const swordfish = "$2b$04$3HQr7GhyqMyfP0t1dVquZOi6aIZKtiqvX5RY677zH.42R9mwqTpkK"

// passwordFile writes what `podman login` does.
func passwordFile(t *testing.T, host, user, password string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "auth.json")
	secret := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	must(t, os.WriteFile(name, []byte(fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, secret)), 0o600))
	return name
}

// TestCredentials: a real registry that wants a password gets it from the file
// that `podman login` writes, and nothing is tried over and over without one.
func TestCredentials(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	passwords := filepath.Join(dir, "htpasswd")
	must(t, os.WriteFile(passwords, []byte("publisher:"+swordfish+"\n"), 0o600))
	address := startDockerRegistry(t, fmt.Sprintf("auth:\n  htpasswd:\n    realm: test\n    path: %s\n", passwords))
	f := newFixture(t, "1.0.0", 1000).written(t, "", "stable")

	authFile := passwordFile(t, address, "publisher", "swordfish")
	with, _, err := Open(address+"/acme/server", Options{CredentialFiles: []string{filepath.Join(dir, "missing.json"), authFile}})
	must(t, err)
	_, err = Copy(ctx, f.layout.Repository(), with, "stable", "stable", nil)
	must(t, err)
	f.checkRelease(t, with, "stable")

	without, _, err := Open(address+"/acme/server", Options{Backoff: func(int) time.Duration {
		t.Error("tried again without a password")
		return 0
	}})
	must(t, err)
	var login *LoginError
	if _, err := without.ReadRelease(ctx, "stable"); !errors.As(err, &login) || login.Hint() != "podman login "+address {
		t.Errorf("without a password: %v", err)
	}
	if _, err := Copy(ctx, f.layout.Repository(), without, "stable", "stable", nil); !errors.As(err, &login) {
		t.Errorf("pushed without a password: %v", err)
	}
	wrong, _, err := Open(address+"/acme/server", Options{CredentialFiles: []string{passwordFile(t, address, "publisher", "wrong")}})
	must(t, err)
	if _, err := wrong.ReadRelease(ctx, "stable"); !errors.As(err, &login) || !strings.Contains(err.Error(), "401") {
		t.Errorf("with a wrong password: %v", err)
	}

	must(t, os.WriteFile(authFile, []byte("{"), 0o600))
	if _, _, err := Open(address+"/acme/server", Options{CredentialFiles: []string{authFile}}); err == nil || !strings.Contains(err.Error(), "auth.json") {
		t.Errorf("with a damaged file: %v", err)
	}
}
