package efivar

import (
	"bytes"
	"context"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/authenticode/authenticodetest"
	"github.com/ashlar-os/ashlar/internal/program"
)

var (
	owner = mustParse("11112222-3333-4444-8888-123456789abc")
	at    = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
)

// tool runs an outside judge in dir.
func tool(t *testing.T, dir string, args ...string) {
	t.Helper()
	if _, err := program.Run(context.Background(), program.Command{Args: args, Dir: dir}); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestEfitoolsAgree: lists and signed updates are those of efitools, byte for
// byte, and read back.
func TestEfitoolsAgree(t *testing.T) {
	dir := t.TempDir()
	pk, kek := authenticodetest.New(t, "PK"), authenticodetest.New(t, "KEK")
	tool(t, dir, "cert-to-efi-sig-list", "-g", owner.String(), kek.CertFile, "KEK.esl")
	entries := []Entry{{Type: TypeX509, Owner: owner, Data: kek.Certificate().Raw}}
	if want := read(t, dir, "KEK.esl"); !bytes.Equal(Encode(entries), want) {
		t.Errorf("the list is %x, efitools' %x", Encode(entries), want)
	}
	tool(t, dir, "sign-efi-sig-list", "-t", at.Format("2006-01-02 15:04:05"), "-k", pk.KeyFile, "-c", pk.CertFile, "KEK", "KEK.esl", "KEK.auth")
	want := read(t, dir, "KEK.auth")
	got, err := Sign(KEK, entries, at, pk.Signer)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the update is\n%x, efitools'\n%x", got, want)
	}
	for _, b := range [][]byte{got, want} {
		u, err := ParseUpdate(KEK, b)
		if err != nil {
			t.Fatal(err)
		}
		if !u.Time.Equal(at) || !u.Signer.Equal(pk.Certificate()) || len(u.Entries) != 1 || !bytes.Equal(u.Entries[0].Data, kek.Certificate().Raw) {
			t.Errorf("it reads as %+v", u)
		}
	}
	// What efitools reads in our list is the certificate again.
	if err := os.WriteFile(filepath.Join(dir, "ours.esl"), Encode(entries), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, dir, "sig-list-to-certs", "ours.esl", "out")
	if !bytes.Equal(read(t, dir, "out-0.der"), kek.Certificate().Raw) {
		t.Error("sig-list-to-certs finds another certificate in our list")
	}
}

// TestSbvarsignAgrees: an update that sbvarsign signed reads here, and ours is
// good to OpenSSL, which sbvarsign and firmware use.
func TestSbvarsignAgrees(t *testing.T) {
	dir := t.TempDir()
	kek, db := authenticodetest.New(t, "KEK"), authenticodetest.New(t, "db")
	tool(t, dir, "cert-to-efi-sig-list", "-g", owner.String(), db.CertFile, "db.esl")
	tool(t, dir, "sbvarsign", "--key", kek.KeyFile, "--cert", kek.CertFile, "--output", "db.auth",
		"--attr", "NON_VOLATILE,BOOTSERVICE_ACCESS,RUNTIME_ACCESS,TIME_BASED_AUTHENTICATED_WRITE_ACCESS", "db", "db.esl")
	u, err := ParseUpdate(DB, read(t, dir, "db.auth"))
	if err != nil {
		t.Fatal(err)
	}
	if !u.Signer.Equal(kek.Certificate()) || len(u.Entries) != 1 || !bytes.Equal(u.Entries[0].Data, db.Certificate().Raw) {
		t.Errorf("it reads as %+v", u)
	}

	content := DB.signed(encodeTime(at), Encode(u.Entries))
	der, err := kek.SignDetached(content)
	if err != nil {
		t.Fatal(err)
	}
	// OpenSSL wants the ContentInfo that variables leave out.
	wrapped := append([]byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02}, derTag(0xa0, der)...)
	for name, b := range map[string][]byte{"signature": derTag(0x30, wrapped), "content": content} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tool(t, dir, "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", "signature", "-content", "content",
		"-certfile", kek.CertFile, "-CAfile", kek.CertFile, "-purpose", "any", "-no_check_time", "-out", "/dev/null")
}

func derTag(tag byte, content []byte) []byte {
	return append([]byte{tag, 0x82, byte(len(content) >> 8), byte(len(content))}, content...)
}

// TestFirmwareLists reads what Debian's OVMF has enrolled for Microsoft's keys,
// as its file of variables holds it.
func TestFirmwareLists(t *testing.T) {
	b, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.ms.fd")
	if err != nil {
		t.Fatalf("%v (Debian package ovmf)", err)
	}
	certificates := 0
	for rest := b; ; {
		i := bytes.Index(rest, TypeX509[:])
		if i < 0 {
			break
		}
		rest = rest[i:]
		size := int(rest[16]) | int(rest[17])<<8
		entries, err := Parse(rest[:size])
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			cert, err := x509.ParseCertificate(e.Data)
			if err != nil {
				t.Errorf("an entry of %s: %v", e.Owner, err)
				continue
			}
			if strings.Contains(cert.Subject.String(), "Microsoft") {
				certificates++
			}
		}
		rest = rest[size:]
	}
	if certificates < 3 {
		t.Errorf("%d certificates of Microsoft's, want at least KEK and two in db", certificates)
	}
}

func TestGUID(t *testing.T) {
	const text = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
	g, err := ParseGUID(text)
	if err != nil || g.String() != text || g[0] != 0x61 || g[15] != 0x8c {
		t.Errorf("%x, %s, %v", g, g, err)
	}
	for _, bad := range []string{"", "8be4df61", strings.ReplaceAll(text, "-", ""), text + "0", strings.Replace(text, "8", "x", 1), strings.Repeat("-", 36)} {
		if _, err := ParseGUID(bad); err == nil {
			t.Errorf("%q is taken for a GUID", bad)
		}
	}
	if PK.File() != "PK-"+text {
		t.Errorf("PK is %q in efivarfs", PK.File())
	}
}

func TestBadLists(t *testing.T) {
	good := Encode([]Entry{{Type: TypeSHA256, Owner: owner, Data: make([]byte, 32)}})
	patch := func(at int, v ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[at:], v)
		return b
	}
	for _, c := range []struct {
		name, want string
		lists      []byte
	}{
		{"cut in the header", "cut after 27", good[:27]},
		{"cut in an entry", "it says it has 76", good[:75]},
		{"behind a list", "cut after 1", append(bytes.Clone(good), 0)},
		{"endless list", "it says it has", patch(16, 0xff, 0xff, 0xff, 0xff)},
		{"list without its header", "it says it has 5", patch(16, 5, 0)},
		{"header beyond the list", "of them header", patch(20, 0xff, 0xff, 0xff, 0xff)},
		{"entries of nothing", "no entries of 0", patch(24, 0, 0)},
		{"entries without data", "no entries of 16", patch(24, 16, 0)},
		{"entries that do not fit", "no entries of 47", patch(24, 47, 0)},
		{"too much", "at most", make([]byte, MaxVariable+1)},
	} {
		if _, err := Parse(c.lists); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	many := Encode([]Entry{{Type: TypeSHA256, Owner: owner, Data: make([]byte, 17*maxEntries+1-entryHeader-1)}})
	many[24] = 17 // as many entries of one byte
	copy(many[25:28], []byte{0, 0, 0})
	if _, err := Parse(many); err != nil {
		t.Errorf("%d entries: %v", maxEntries, err)
	}
}

func TestBadUpdates(t *testing.T) {
	kek := authenticodetest.New(t, "KEK")
	good, err := Sign(DB, []Entry{{Type: TypeSHA256, Owner: owner, Data: make([]byte, 32)}}, at, kek.Signer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseUpdate(DB, good); err != nil {
		t.Fatal(err)
	}
	if _, err := ParseUpdate(DBX, good); err == nil {
		t.Error("an update of db is one of dbx too")
	}
	patch := func(at int, v ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[at:], v)
		return b
	}
	for _, c := range []struct {
		name, want string
		update     []byte
	}{
		{"nothing", "cut after 0", nil},
		{"a time zone", "its time", patch(12, 1)},
		{"nanoseconds", "its time", patch(8, 1)},
		{"another time", "not by the key", patch(4, 13)},
		{"another kind", "another kind", patch(timeSize+6, 0xf0)},
		{"endless signature", "says it has", patch(timeSize, 0xff, 0xff, 0xff, 0xff)},
		{"other content", "not by the key", patch(len(good)-1, 1)},
	} {
		if _, err := ParseUpdate(DB, c.update); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Encode([]Entry{{Type: TypeSHA256, Owner: owner, Data: make([]byte, 32)}, {Type: TypeX509, Owner: owner, Data: []byte("certificate")}}))
	f.Add([]byte{})
	f.Add(make([]byte, listHeader))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := Parse(b)
		if err != nil {
			return
		}
		again, err := Parse(Encode(entries))
		if err != nil || len(again) != len(entries) {
			t.Errorf("%d entries, encoded and read again %d: %v", len(entries), len(again), err)
		}
	})
}

func FuzzParseUpdate(f *testing.F) {
	update, err := Sign(DB, []Entry{{Type: TypeSHA256, Owner: owner, Data: make([]byte, 32)}}, at, authenticodetest.New(f, "KEK").Signer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(update)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if u, err := ParseUpdate(DB, b); err == nil && u.Signer == nil {
			t.Error("an update that nobody signed")
		}
	})
}
