package authenticode

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/program"
)

// loader is Debian's systemd-boot: a program that others linked.
const loader = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"

func readLoader(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile(loader)
	if err != nil {
		t.Fatalf("%v (Debian package systemd-boot-efi)", err)
	}
	return b
}

// identity is a key with its certificate, as files too.
type identity struct {
	*Signer
	cert, key string // paths of PEM files
}

// newIdentity makes a certificate, issued by issuer or, where that is nil, by itself.
func newIdentity(t testing.TB, name string, issuer *identity) *identity {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour), // firmware has no clock to speak of
	}
	parent, parentKey := template, any(key)
	if issuer != nil {
		parent, parentKey = issuer.Signer.cert, issuer.Signer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	id := &identity{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if id.Signer, err = NewSigner(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{id.cert: certPEM, id.key: keyPEM} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return id
}

func run(t testing.TB, args ...string) error {
	t.Helper()
	_, err := program.Run(context.Background(), program.Command{Args: args})
	return err
}

func write(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program.efi")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t testing.TB, b []byte) *Image {
	t.Helper()
	image, err := Read(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// TestSbverifyAgrees: what is signed here is good to Debian's sbverify, and
// what was changed after that is not.
func TestSbverifyAgrees(t *testing.T) {
	id, other := newIdentity(t, "one", nil), newIdentity(t, "other", nil)
	plain := readLoader(t)
	for _, b := range [][]byte{plain, append(bytes.Clone(plain), 1, 2, 3)} { // one of them ends where no signature may begin
		signed, err := id.SignFile(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := id.SignFile(b)
		if err != nil || !bytes.Equal(signed, again) {
			t.Errorf("signing twice gives other bytes: %v", err)
		}
		if err := run(t, "sbverify", "--cert", id.cert, write(t, signed)); err != nil {
			t.Error(err)
		}
		if err := run(t, "sbverify", "--cert", other.cert, write(t, signed)); err == nil {
			t.Error("sbverify finds another's signature")
		}
		got := read(t, signed)
		if len(got.Signatures) != 1 || got.Signatures[0].Err != nil || !got.Signatures[0].LeadsTo(id.Signer.cert) {
			t.Errorf("read back: %+v", got.Signatures)
		}
		if got.Signatures[0].LeadsTo(other.Signer.cert) {
			t.Error("the signature leads to somebody else")
		}
		if padded := append(bytes.Clone(b), make([]byte, -len(b)&7)...); read(t, padded).Digest != got.Digest {
			t.Error("signing changed the digest")
		}
		bad := bytes.Clone(signed)
		bad[5000] ^= 1
		if err := run(t, "sbverify", "--cert", id.cert, write(t, bad)); err == nil {
			t.Error("sbverify accepts a changed program")
		}
		if got := read(t, bad).Signatures[0].Err; got == nil || !strings.Contains(got.Error(), "changed after it was signed") {
			t.Errorf("a changed program: %v", got)
		}
		if _, err := id.SignFile(signed); err == nil || !strings.Contains(err.Error(), "signed already") {
			t.Errorf("signing what is signed: %v", err)
		}
	}
}

// TestSbsignAgrees: what sbsign signs, once or twice, is good here.
func TestSbsignAgrees(t *testing.T) {
	one, two := newIdentity(t, "one", nil), newIdentity(t, "two", nil)
	path := write(t, readLoader(t))
	for i, id := range []*identity{one, two} {
		if err := run(t, "sbsign", "--key", id.key, "--cert", id.cert, "--output", path, path); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got := read(t, b)
		if len(got.Signatures) != i+1 {
			t.Fatalf("%d signatures, want %d", len(got.Signatures), i+1)
		}
		for j, s := range got.Signatures {
			if want := []*identity{one, two}[j].cert; s.Err != nil || s.Signer == nil {
				t.Errorf("signature %d by %s: %v", j, want, s.Err)
			}
		}
		if !got.Signatures[i].LeadsTo(id.Signer.cert) {
			t.Errorf("signature %d does not lead to its signer", i)
		}
	}
}

// TestIssuer: a certificate may be trusted through the one that issued it,
// whether that is in the signature or not.
func TestIssuer(t *testing.T) {
	root := newIdentity(t, "root", nil)
	middle := newIdentity(t, "middle", root)
	leaf := newIdentity(t, "leaf", middle)
	impostor := newIdentity(t, "middle", nil) // the same name, another key
	path := write(t, readLoader(t))
	if err := run(t, "sbsign", "--key", leaf.key, "--cert", leaf.cert, "--addcert", middle.cert, "--output", path, path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := read(t, b).Signatures[0]
	if s.Err != nil || len(s.Chain()) != 2 {
		t.Fatalf("%v, a chain of %d", s.Err, len(s.Chain()))
	}
	for _, id := range []*identity{root, middle, leaf} {
		if !s.LeadsTo(id.Signer.cert) {
			t.Errorf("it does not lead to %s", id.Signer.cert.Subject)
		}
	}
	if s.LeadsTo(impostor.Signer.cert) {
		t.Error("it leads to a certificate of the same name with another key")
	}
}

// TestDetached: what signs a variable reads back, and is for its content alone.
func TestDetached(t *testing.T) {
	id := newIdentity(t, "one", nil)
	content := []byte("content of a variable")
	der, err := id.SignDetached(content)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err := VerifyDetached(der, content); err != nil || !cert.Equal(id.Signer.cert) {
		t.Errorf("read back: %v", err)
	}
	if _, err := VerifyDetached(der, append(content, '.')); err == nil {
		t.Error("it signs other content too")
	}
}

func TestBadPrograms(t *testing.T) {
	good := newIdentity(t, "one", nil)
	signed, err := good.SignFile(readLoader(t))
	if err != nil {
		t.Fatal(err)
	}
	pe := int(binary.LittleEndian.Uint32(signed[dosPEOffset:]))
	opt := pe + fileHeaderSize
	table := int(binary.LittleEndian.Uint32(signed[opt+optCertTable:]))
	patch := func(at int, v ...byte) []byte {
		b := bytes.Clone(signed)
		copy(b[at:], v)
		return b
	}
	for _, c := range []struct {
		name, want string
		program    []byte
	}{
		{"nothing", "no EFI program", nil},
		{"text", "no EFI program", bytes.Repeat([]byte("text"), 100)},
		{"cut header", "no EFI program", signed[:pe+10]},
		{"header far away", "no EFI program", patch(dosPEOffset, 0xff, 0xff, 0xff, 0xff)},
		{"no PE", `no "PE`, patch(pe, 'X')},
		{"32 bits", "PE32+", patch(opt, 0x0b, 0x01)},
		{"no sections", "0 sections", patch(pe+6, 0, 0)},
		{"many sections", "65535 sections", patch(pe+6, 0xff, 0xff)},
		{"headers beyond the file", "do not fit", patch(opt+optSizeOfHdrs, 0xff, 0xff, 0xff, 0x7f)},
		{"cut section", "cut short", signed[:10000]},
		{"cut signature", "not at the end", signed[:len(signed)-8]},
		{"bytes behind the signature", "not at the end", append(bytes.Clone(signed), 0)},
		{"huge signatures", "at most", patch(opt+optCertTable+4, 0, 0, 0, 0x10)},
		{"signature over the program", "not at the end", patch(opt+optCertTable, 0, 1, 0, 0)},
		{"empty signature", "one of its signatures has 0 bytes", patch(table, 0, 0, 0, 0)},
		{"long signature", "one of its signatures has", patch(table, 0xff, 0xff, 0xff, 0)},
	} {
		if _, err := Read(bytes.NewReader(c.program), int64(len(c.program))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	// A signature that cannot be read says nothing; the program can.
	for _, c := range []struct {
		name, want string
		program    []byte
	}{
		{"kind", "kind 1", patch(table+6, 1)},
		{"no CMS", "reading a signature", patch(table+certHeader, 0xff)},
		{"signature value", "not by the key of", patch(len(signed)-30, signed[len(signed)-30]^1)},
	} {
		image := read(t, c.program)
		if err := image.Signatures[0].Err; err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestBadKeys(t *testing.T) {
	id, other := newIdentity(t, "one", nil), newIdentity(t, "other", nil)
	file := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	cert, own := file(id.cert), file(id.key)
	for _, c := range []struct {
		name, want string
		cert, key  []byte
	}{
		{"no certificate", "not PEM with a CERTIFICATE", nil, own},
		{"key as certificate", "not PEM with a CERTIFICATE", own, own},
		{"no key", "not PEM", cert, nil},
		{"certificate as key", `holds "CERTIFICATE"`, cert, cert},
		{"another key", "not that of the certificate", cert, file(other.key)},
	} {
		if _, err := NewSigner(c.cert, c.key); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want one with %q", c.name, err, c.want)
		}
	}
}

// tiny is the smallest program that can be signed, as a seed.
func tiny() []byte {
	b := make([]byte, 1024)
	copy(b, "MZ")
	b[dosPEOffset] = 64
	copy(b[64:], "PE\x00\x00")
	b[64+6] = 1    // section
	b[64+20] = 240 // bytes of optional header
	opt := 64 + fileHeaderSize
	binary.LittleEndian.PutUint16(b[opt:], magicPE32Plus)
	binary.LittleEndian.PutUint32(b[opt+optSizeOfHdrs:], 512)
	b[opt+optDirectories-4] = 16
	section := opt + 240
	binary.LittleEndian.PutUint32(b[section+16:], 512)
	binary.LittleEndian.PutUint32(b[section+20:], 512)
	return b
}

func FuzzRead(f *testing.F) {
	signed, err := newIdentity(f, "one", nil).SignFile(tiny())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(tiny())
	f.Add(signed)
	f.Add([]byte("MZ"))
	f.Fuzz(func(t *testing.T, b []byte) {
		image, err := Read(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, s := range image.Signatures {
			if s.Err == nil && s.Signer == nil {
				t.Error("a good signature without a signer")
			}
			s.Chain()
		}
	})
}
