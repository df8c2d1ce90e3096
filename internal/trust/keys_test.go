package trust

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInit(t *testing.T) {
	k := newKeyring(t)
	var names []string
	err := filepath.WalkDir(k.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		names = append(names, filepath.Base(path))
		if want := fs.FileMode(0o600); strings.HasSuffix(path, ".key") && info.Mode().Perm() != want {
			t.Errorf("%s has mode %04o, want %04o", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(names, " "), "channels.key root-1.key root-2.key root-3.key root.json 1.root.json snapshot.key targets.key timestamp.key"; got != want {
		t.Errorf("the directory holds %s, want %s", got, want)
	}
	if k.root.Signed.Roles[RoleRoot].Threshold != 2 || len(signers(k.root, k.root.Signed.Roles[RoleRoot].KeyIDs, k.root.Signed.Keys)) != 3 {
		t.Error("the root is not signed by three of which two must")
	}
	keys, err := k.Keys()
	if err != nil || len(keys) != 7 || keys[0].Role != RoleRoot || !keys[0].Active || filepath.Base(keys[0].File) != "root-1.key" || keys[6].Role != RoleChannels {
		t.Errorf("keys: %+v, %v", keys, err)
	}
	secret := "correct horse"
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(k.dir, name))
		if err == nil && bytes.Contains(data, []byte(secret)) {
			t.Errorf("%s holds the passphrase", name)
		}
	}
	// Nothing is ever overwritten.
	before := read(t, filepath.Join(k.dir, "root-1.key"))
	_, err = Init(ctx, k.dir, InitOptions{Holders: 1, Threshold: 1, Passphrase: secrets})
	if err == nil || !strings.HasSuffix(err.Error(), "holds a root.json already, and keys are never overwritten") {
		t.Error(err)
	}
	if err := errors.Join(os.Remove(filepath.Join(k.dir, "root.json")), os.RemoveAll(filepath.Join(k.dir, rootsDir))); err != nil {
		t.Fatal(err)
	}
	_, err = Init(ctx, k.dir, InitOptions{Holders: 1, Threshold: 1, Passphrase: secrets})
	if err == nil || !strings.Contains(err.Error(), "holds keys already") {
		t.Error(err)
	}
	if _, err := newKeyFile(filepath.Join(k.dir, "root-1.key"), RoleRoot, secrets); err == nil || !strings.HasSuffix(err.Error(), "exists, and keys are never overwritten") {
		t.Error(err)
	}
	if err := publishFile(filepath.Join(k.dir, "root-1.key"), []byte("x"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	if !bytes.Equal(before, read(t, filepath.Join(k.dir, "root-1.key"))) {
		t.Error("a key was overwritten")
	}
}

func TestInitRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	for _, c := range []struct {
		opts InitOptions
		want string
	}{
		{InitOptions{Holders: 3, Threshold: 4, Passphrase: secrets}, "4 of 3 holders cannot sign: the threshold must be between 1 and 3"},
		{InitOptions{Holders: 3, Passphrase: secrets}, "0 of 3 holders cannot sign: the threshold must be between 1 and 3"},
		{InitOptions{Holders: 65, Threshold: 2, Passphrase: secrets}, "65 holders of root keys: there must be 1 to 64"},
		{InitOptions{Holders: 1, Threshold: 1}, `key file "` + dir + `/root-1.key" needs a passphrase, and there is nobody to ask`},
		{InitOptions{Holders: 1, Threshold: 1, Passphrase: func(Ask) ([]byte, error) { return nil, nil }}, `the passphrase of key file "` + dir + `/root-1.key" is empty`},
	} {
		if _, err := Init(ctx, dir, c.opts); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	if names, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(names) != 0 {
		t.Errorf("left behind: %q, %v", names, err)
	}
}

func TestKeyFiles(t *testing.T) {
	k := newKeyring(t)
	path := filepath.Join(k.dir, "targets.key")
	ids, _ := rootRole(k.root, RoleTargets)

	// The passphrase is asked for once, and not before it is needed.
	asked := 0
	ask := func(a Ask) ([]byte, error) {
		asked++
		if a != (Ask{File: path, Role: RoleTargets}) {
			t.Errorf("asked for %+v", a)
		}
		return []byte("correct horse"), nil
	}
	k, err := OpenKeyring(k.dir, ask)
	if err != nil {
		t.Fatal(err)
	}
	if asked != 0 || !k.Has(ids[0]) {
		t.Errorf("asked %d times", asked)
	}
	for range 2 {
		s, err := k.Signer(ctx, ids[0])
		if err != nil || s.KeyID() != ids[0] {
			t.Fatal(err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	if _, err := k.Signer(ctx, strings.Repeat("0", 64)); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}

	wrong, err := OpenKeyring(k.dir, func(Ask) ([]byte, error) { return []byte("battery staple"), nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wrong.Signer(ctx, ids[0]); err == nil || err.Error() != `the passphrase does not open key file "`+path+`"` {
		t.Error(err)
	}

	// Another key's private half under this one's name.
	other := read(t, filepath.Join(k.dir, "snapshot.key"))
	mine := read(t, path)
	swapped := mine[:bytes.Index(mine, []byte(`"encrypted"`))]
	swapped = append(bytes.Clone(swapped), other[bytes.Index(other, []byte(`"encrypted"`)):]...)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"swapped": {swapped, "its private half is not that of its public key"},
		"renamed": {bytes.Replace(mine, []byte(ids[0]), []byte(strings.Repeat("0", 64)), 1), "its id is not that of its public key"},
		"cut":     {mine[:100], "is not a key file of ashlar"},
		"long":    {bytes.Repeat([]byte(" "), maxKeyFile+1), "it is too long: at most 65536 bytes are allowed"},
	} {
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := OpenKeyring(k.dir, secrets)
		if err == nil {
			_, err = k.Signer(ctx, ids[0])
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(path, mine, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o660, 0o620} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenKeyring(k.dir, secrets); err == nil || !strings.Contains(err.Error(), "can be read by others (mode 0") {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

func TestFindKey(t *testing.T) {
	k := newKeyring(t)
	ids, _ := rootRole(k.root, RoleRoot)
	for what, want := range map[string]string{"root-2": ids[1], "root-3.key": ids[2], ids[0][:10]: ids[0]} {
		if key, err := k.Find(what); err != nil || key.ID != want {
			t.Errorf("%s: %+v, %v", what, key, err)
		}
	}
	if key, err := k.Find("targets"); err != nil || key.Role != RoleTargets {
		t.Errorf("%+v, %v", key, err)
	}
	for what, want := range map[string]string{
		"root":   `"root" stands for 3 keys in "` + k.dir + `": name one by its file or its id`,
		"root-9": `no key in "` + k.dir + `" is called "root-9"`,
		"":       `no key in "` + k.dir + `" is called ""`,
	} {
		if _, err := k.Find(what); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// Cut between the two files of a new root: the numbered one counts.
func TestNewRootIsCut(t *testing.T) {
	p := newPublisher(t)
	p.rotate(func(c *RootChange) error { return c.SetThreshold(3) })
	dir := p.keys.dir
	if err := os.WriteFile(filepath.Join(dir, newestRoot), p.keys.roots[1], 0o644); err != nil {
		t.Fatal(err)
	}
	k := reopen(t, dir, p.keys)
	if string(k.Root()) != string(p.keys.roots[2]) {
		t.Error("root 2 is forgotten")
	}
	c, err := k.ChangeRoot(RootOptions{Now: at(today)})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Sign(ctx), c.Commit()); err != nil {
		t.Fatal(err)
	}
	if string(read(t, filepath.Join(dir, newestRoot))) != string(k.roots[3]) {
		t.Error("root.json is not the newest")
	}
}

// A keyring whose roots do not follow from each other is not opened.
func TestKeyringsRoots(t *testing.T) {
	p := newPublisher(t)
	p.rotate(func(c *RootChange) error { return c.SetThreshold(3) })
	p.rotate(func(c *RootChange) error { return c.SetThreshold(2) })
	dir := p.keys.dir
	reopen(t, dir, p.keys)
	if err := os.Rename(filepath.Join(dir, rootsDir, "2.root.json"), filepath.Join(dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeyring(dir, secrets); err == nil || !strings.HasSuffix(err.Error(), "holds root 3, and not root 2 that comes before it") {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, rootsDir, "2.root.json"), read(t, filepath.Join(dir, "root.json")), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeyring(dir, secrets); err == nil {
		t.Error("a root under another number was taken")
	}
	// With the newest root alone one can work: a CI needs no more.
	if err := os.RemoveAll(filepath.Join(dir, rootsDir)); err != nil {
		t.Fatal(err)
	}
	if k := reopen(t, dir, p.keys); k.root.Signed.Version != 3 {
		t.Errorf("root %d", k.root.Signed.Version)
	}
	if err := os.Remove(filepath.Join(dir, "root.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeyring(dir, secrets); err == nil || !strings.HasSuffix(err.Error(), "holds no root.json: ashlar keys init makes one") {
		t.Error(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
