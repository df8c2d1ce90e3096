package sysroot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anatol/luks.go"

	"github.com/ashlar-os/ashlar/internal/program"
)

// encrypt makes a LUKS header as cryptsetup does, in a file that plays the partition.
func encrypt(t testing.TB, passphrase string, options ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "partition")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 20<<20); err != nil {
		t.Fatal(err)
	}
	cryptsetup(t, passphrase, append([]string{"luksFormat", "--key-file=-", path}, options...)...)
	return path
}

func cryptsetup(t testing.TB, stdin string, args ...string) []byte {
	t.Helper()
	out, err := program.Run(context.Background(), program.Command{
		Args: append([]string{"cryptsetup", "--batch-mode"}, args...), Stdin: strings.NewReader(stdin),
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// cheap is argon2id as cryptsetup chooses it, but for its cost.
var cheap = []string{"--type=luks2", "--pbkdf=argon2id", "--pbkdf-memory=1024", "--pbkdf-force-iterations=4", "--pbkdf-parallel=2"}

func readPartition(t testing.TB, path string) (*luksHeader, error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return readLUKS(f)
}

// What cryptsetup makes is taken, and only the passphrases that it was given open it.
func TestLUKS(t *testing.T) {
	path := encrypt(t, "first", cheap...)
	second := filepath.Join(t.TempDir(), "second")
	if err := os.WriteFile(second, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	cryptsetup(t, "first", "luksAddKey", "--key-file=-", path, second, "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000")
	if kind, err := probe(path); kind != luksKind || err != nil {
		t.Errorf("probed as %q, %v", kind, err)
	}
	h, err := readPartition(t, path)
	if err != nil || len(h.Keyslots) != 2 {
		t.Fatalf("header %+v, %v", h, err)
	}
	d, err := luks.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	slots, _ := h.affordable(1 << 20)
	for passphrase, slot := range map[string]int{"first": 0, "second": 1} {
		for _, s := range slots {
			v, err := d.UnsealVolume(s, []byte(passphrase))
			if opens := err == nil; opens != (s == slot) || err != nil && !errors.Is(err, luks.ErrPassphraseDoesNotMatch) {
				t.Errorf("%q with key slot %d: %v", passphrase, s, err)
			} else if opens && (v.StorageOffset != 16<<20 || v.StorageEncryption != luksCipher) {
				t.Errorf("volume %+v", v)
			}
		}
	}
	if err := openVolume(d, h, []byte("third"), luksName); !errors.Is(err, luks.ErrPassphraseDoesNotMatch) {
		t.Errorf("a wrong passphrase: %v", err)
	}
	if slots, otherwise := h.affordable(1000); len(slots) != 1 || slots[0] != 1 || otherwise != 1024 {
		t.Errorf("with 1000 KiB: key slots %v, otherwise %d KiB", slots, otherwise)
	}
}

// A header that somebody changed, with checksums that are right again, is refused
// where it would give the data away or ask for too much.
func TestBadLUKSHeader(t *testing.T) {
	path := encrypt(t, "first", cheap...)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, new, want string }{
		{"no cipher", `"iv_tweak":"0","encryption":"aes-xts-plain64"`, `"iv_tweak":"0","encryption":"cipher_null-ecb"`, `cipher "cipher_null-ecb"`},
		{"another cipher for the key", `"encryption":"aes-xts-plain64","key_size"`, `"encryption":"aes-cbc-plain64","key_size"`, `cipher "aes-cbc-plain64"`},
		{"much memory", `"memory":1024`, `"memory":9999999`, "9999999 KiB of memory"},
		{"no threads", `"cpus":2`, `"cpus":0`, "0 threads"},
		{"another segment", `"offset":"16777216"`, `"offset":"1677"`, `begins at "1677"`},
		{"a part", `"size":"dynamic"`, `"size":"4096"`, "not the whole partition"},
		{"stripes", `"stripes":4000`, `"stripes":1`, "with 1 stripes"},
		{"a short digest", `"digest":"`, `"digest":"AAAA","was":"`, "and 3 bytes"},
		{"requirements", `"config":{`, `"config":{"requirements":{"mandatory":["online-reencrypt"]},`, "online-reencrypt"},
		{"a linear segment", `"type":"crypt"`, `"type":"linear"`, `it is "linear"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := bytes.Clone(good)
			text, _, _ := bytes.Cut(b[luksBinary:16<<10], []byte{0})
			var plain bytes.Buffer
			if err := json.Compact(&plain, text); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(plain.String(), c.old) {
				t.Fatalf("%q is not in %s", c.old, plain.String())
			}
			clear(b[luksBinary : 16<<10])
			copy(b[luksBinary:], strings.Replace(plain.String(), c.old, c.new, 1))
			if _, err := readLUKS(bytes.NewReader(b)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
		})
	}
	for name, b := range map[string][]byte{
		"nothing": {}, "no magic": make([]byte, 32<<10), "cut off": good[:8000],
		"version 1": append([]byte(luksMagic+"\x00\x01"), good[8:]...),
		"size":      append(append(bytes.Clone(good[:8]), 0xff), good[9:]...),
	} {
		if _, err := readLUKS(bytes.NewReader(b)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzLUKSHeader(f *testing.F) {
	path := encrypt(f, "first", cheap...)
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	text, _, _ := bytes.Cut(b[luksBinary:16<<10], []byte{0})
	f.Add(text)
	fixed := b[:luksBinary]
	f.Fuzz(func(t *testing.T, text []byte) {
		b := make([]byte, 16<<10)
		copy(b, fixed)
		copy(b[luksBinary:], text)
		h, err := readLUKS(bytes.NewReader(b))
		if err != nil {
			return
		}
		for id, s := range h.Keyslots {
			if s.KDF.Memory > maxLUKSMemory || s.Area.Encryption != luksCipher {
				t.Errorf("key slot %d: %+v", id, s)
			}
		}
	})
}

func TestFreeMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meminfo")
	write(t, path, "MemTotal:        2014448 kB\nMemAvailable:    1800000 kB\n")
	if n := freeMemory(path); n != 1800000 {
		t.Errorf("%d KiB are free", n)
	}
	if n := freeMemory(path + "x"); n != 0 {
		t.Errorf("%d KiB are free of none", n)
	}
}
