package secureboot

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/authenticode"
	"github.com/ashlar-os/ashlar/internal/image/efivar"
	"github.com/ashlar-os/ashlar/internal/trust/keyfile"
)

// Directory is where the keys are in a publisher's key directory.
const Directory = "secureboot"

const ownerFile = "owner.guid"

// validity of the certificates. Firmware looks at no clock when it checks
// signatures; other tools may.
const validity = 30 // years

// InitOptions are the choices for new keys.
type InitOptions struct {
	Name       string // in the certificates' subjects: "NAME Secure Boot db"
	Bits       int    // of RSA: 2048, 3072 or 4096
	Now        time.Time
	Passphrase []byte // closes the three keys
}

// Init makes the three keys, their certificates and the signed variables in
// dir/secureboot, all of it or nothing.
func Init(dir string, o InitOptions) (err error) {
	if o.Bits != 2048 && o.Bits != 3072 && o.Bits != 4096 {
		return fmt.Errorf("RSA keys of %d bits: firmware takes 2048, and mostly 3072 and 4096", o.Bits)
	}
	if len(o.Name) == 0 || len(o.Name) > 40 { // X.520 ends a common name at 64
		return fmt.Errorf("the name %q of the keys has %d bytes, want 1 to 40", o.Name, len(o.Name))
	}
	final := filepath.Join(dir, Directory)
	if _, err := os.Lstat(final); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there are Secure Boot keys in %q already, or something else by that name", final)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	work, err := os.MkdirTemp(dir, ".secureboot-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("making Secure Boot keys: %w", err), os.RemoveAll(work))
		}
	}()
	owner, err := newGUID()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(work, ownerFile), []byte(owner.String()+"\n"), 0o644); err != nil {
		return err
	}
	signers := make(map[string]*authenticode.Signer)
	for _, v := range []efivar.Variable{efivar.PK, efivar.KEK, efivar.DB} {
		if signers[v.Name], err = makeKey(work, v.Name, o); err != nil {
			return err
		}
	}
	for _, v := range []struct {
		efivar.Variable
		by string
	}{{efivar.PK, "PK"}, {efivar.KEK, "PK"}, {efivar.DB, "KEK"}} {
		entries := []efivar.Entry{{Type: efivar.TypeX509, Owner: owner, Data: signers[v.Name].Certificate().Raw}}
		update, err := efivar.Sign(v.Variable, entries, o.Now, signers[v.by])
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(work, v.Name+".auth"), update, 0o644); err != nil {
			return err
		}
	}
	return os.Rename(work, final)
}

// makeKey writes NAME.key and NAME.crt.
func makeKey(dir, role string, o InitOptions) (*authenticode.Signer, error) {
	key, err := rsa.GenerateKey(rand.Reader, o.Bits)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: o.Name + " Secure Boot " + role},
		NotBefore:    o.Now, NotAfter: o.Now.AddDate(validity, 0, 0),
		SignatureAlgorithm: x509.SHA256WithRSA,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	if err := keyfile.Write(filepath.Join(dir, role+".key"), keyPEM, o.Passphrase); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, role+".crt"), certPEM, 0o644); err != nil {
		return nil, err
	}
	return authenticode.NewSigner(certPEM, keyPEM)
}

// newGUID is a random UUID (version 4).
func newGUID() (g efivar.GUID, err error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return g, err
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return efivar.ParseGUID(fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:]))
}
