// Package authenticodetest makes keys and programs for tests of what is signed.
package authenticodetest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/authenticode"
)

// Identity is a key with a certificate that it signed itself, as files too.
type Identity struct {
	*authenticode.Signer
	CertFile, KeyFile string // PEM
}

// New makes an identity with that common name.
func New(t testing.TB, name string) *Identity {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	dir := t.TempDir()
	id := &Identity{CertFile: filepath.Join(dir, name+".crt"), KeyFile: filepath.Join(dir, name+".key")}
	must(t, os.WriteFile(id.CertFile, certPEM, 0o600))
	must(t, os.WriteFile(id.KeyFile, keyPEM, 0o600))
	id.Signer, err = authenticode.NewSigner(certPEM, keyPEM)
	must(t, err)
	return id
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
