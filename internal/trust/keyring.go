package trust

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/ashlar-os/ashlar/internal/limited"
)

// Keyring is a publisher's directory of keys:
//
//	root-1.key … root-N.key   one for each holder; a holder takes theirs away
//	targets.key, channels.key, snapshot.key, timestamp.key
//	root.json                 the newest root: what goes into images
//	roots/1.root.json …       every root, which machines follow one by one
//	accepted/                 what the publisher last saw in each repository
//
// Names of key files are for people: a key is found by its id. So keys that are
// not here, and keys that are not in use any more, are nothing special.
type Keyring struct {
	dir        string
	passphrase Passphrase
	files      map[string]string // id of a key -> its file
	open       map[string]Signer // those that were opened, and those that were lent
	roots      map[int64][]byte
	root       *rootFile // the newest
}

const (
	keySuffix   = ".key"
	newestRoot  = "root.json"
	rootsDir    = "roots"
	acceptedDir = "accepted"
)

// OpenKeyring reads a directory of keys. The passphrase is asked for when a key
// is first used, once for each.
func OpenKeyring(dir string, passphrase Passphrase) (*Keyring, error) {
	k := &Keyring{dir: dir, passphrase: passphrase, files: map[string]string{}, open: map[string]Signer{}}
	if err := k.readRoots(); err != nil {
		return nil, err
	}
	if err := k.readKeys(); err != nil {
		return nil, err
	}
	return k, nil
}

func (k *Keyring) readKeys() error {
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), keySuffix) {
			continue
		}
		path := filepath.Join(k.dir, e.Name())
		key, err := readKeyFile(path)
		if err != nil {
			return err
		}
		k.files[key.KeyID] = path
	}
	return nil
}

// readRoots reads root.json and roots/, and verifies that each root follows
// from the one before.
func (k *Keyring) readRoots() error {
	k.roots = map[int64][]byte{}
	paths, err := filepath.Glob(filepath.Join(escapeGlob(k.dir), rootsDir, "*.root.json"))
	if err != nil {
		return err
	}
	for _, path := range append(paths, filepath.Join(k.dir, newestRoot)) {
		data, err := limited.File(path, maxRoot)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%q holds no %s: ashlar keys init makes one", k.dir, newestRoot)
		}
		if err != nil {
			return err
		}
		root, err := decodeRoot(data)
		if err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
		if there, ok := k.roots[root.Signed.Version]; ok && string(there) != string(data) {
			return fmt.Errorf("%q is another root %d than the one in %q", path, root.Signed.Version, filepath.Join(k.dir, rootsDir))
		}
		k.roots[root.Signed.Version] = data
	}
	w := &walk{src: k.rootFiles(), kept: &accepted{}, clock: timeless}
	w.files, w.names = Files{}, w.src.Names()
	if err := w.firstRoot(k.oldestRoot()); err != nil {
		return fmt.Errorf("the roots in %q: %w", k.dir, err)
	}
	if err := w.roots(context.Background()); err != nil {
		return fmt.Errorf("the roots in %q: %w", k.dir, err)
	}
	k.root = w.tuf.Root
	for v := range k.roots {
		if v > k.root.Signed.Version {
			return fmt.Errorf("%q holds root %d, and not root %d that comes before it", k.dir, v, k.root.Signed.Version+1)
		}
	}
	return nil
}

// rootFiles returns every root by its name in a repository.
func (k *Keyring) rootFiles() Files {
	files := Files{}
	for v, data := range k.roots {
		files[FileName(RoleRoot, v)] = data
	}
	return files
}

func (k *Keyring) oldestRoot() []byte {
	oldest := int64(maxVersion)
	for v := range k.roots {
		oldest = min(oldest, v)
	}
	return k.roots[oldest]
}

// addRoot keeps a verified root. The numbered file comes first: root.json alone
// would leave a hole in the chain.
func (k *Keyring) addRoot(root *rootFile, data []byte) error {
	if err := os.MkdirAll(filepath.Join(k.dir, rootsDir), 0o700); err != nil {
		return err
	}
	version := root.Signed.Version
	if err := publishFile(filepath.Join(k.dir, rootsDir, FileName(RoleRoot, version)), data, 0o644); err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(k.dir, newestRoot), data, 0o644); err != nil {
		return err
	}
	k.roots[version], k.root = data, root
	return nil
}

// Dir returns the directory.
func (k *Keyring) Dir() string { return k.dir }

// Root returns the newest root: the bytes that an image carries.
func (k *Keyring) Root() []byte { return k.roots[k.root.Signed.Version] }

// Lend makes a key that lives elsewhere, in a token or a service, usable like
// those in the directory.
func (k *Keyring) Lend(s Signer) { k.open[s.KeyID()] = s }

// Has implements [Signers].
func (k *Keyring) Has(keyID string) bool {
	return k.open[keyID] != nil || k.files[keyID] != ""
}

// Signer implements [Signers].
func (k *Keyring) Signer(_ context.Context, keyID string) (Signer, error) {
	if s := k.open[keyID]; s != nil {
		return s, nil
	}
	path, ok := k.files[keyID]
	if !ok {
		return nil, fmt.Errorf("key %.12s… in %q: %w", keyID, k.dir, ErrNoKey)
	}
	key, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	signer, err := key.open(path, k.passphrase)
	if err != nil {
		return nil, err
	}
	k.open[keyID] = signer
	return signer, nil
}

// newest returns the id of the newest key file of a role, which need not be in use.
func (k *Keyring) newest(role string) (string, error) {
	best, bestNumber := "", 0
	for id, path := range k.files {
		name := strings.TrimSuffix(filepath.Base(path), keySuffix)
		number := 1
		if rest, ok := strings.CutPrefix(name, role); !ok {
			continue
		} else if rest != "" {
			if n, err := strconv.Atoi(strings.TrimPrefix(rest, "-")); err != nil {
				continue
			} else {
				number = n
			}
		}
		if number > bestNumber {
			best, bestNumber = id, number
		}
	}
	if best == "" {
		return "", fmt.Errorf("a key for %s in %q: %w", role, k.dir, ErrNoKey)
	}
	return best, nil
}

// public returns the public half of a key that has a file here.
func (k *Keyring) public(id string) (*metadata.Key, error) {
	key, err := readKeyFile(k.files[id])
	if err != nil {
		return nil, err
	}
	public, err := hex.DecodeString(key.Public)
	if err != nil {
		return nil, err
	}
	return tufKey(public), nil
}

// newKey makes a key for a role, in the first file name that is free:
// "targets.key", "targets-2.key"; "root-1.key" for holders.
func (k *Keyring) newKey(role string) (Signer, error) {
	for n := 1; ; n++ {
		name := role
		if role == RoleRoot || n > 1 {
			name = fmt.Sprintf("%s-%d", role, n)
		}
		path := filepath.Join(k.dir, name+keySuffix)
		// A holder's file may be away, and its number is still theirs.
		taken := role == RoleRoot && n <= len(k.allHolders())
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) || taken {
			continue
		}
		signer, err := newKeyFile(path, role, k.passphrase)
		if err != nil {
			return nil, err
		}
		k.files[signer.KeyID()], k.open[signer.KeyID()] = path, signer
		return signer, nil
	}
}

// allHolders returns the ids of all root keys there ever were, in the order in
// which they came: holder N has file root-N.key.
func (k *Keyring) allHolders() []string {
	var ids []string
	versions := make([]int64, 0, len(k.roots))
	for v := range k.roots {
		versions = append(versions, v)
	}
	slices.Sort(versions)
	for _, v := range versions {
		root, err := decodeRoot(k.roots[v])
		if err != nil {
			continue // verified when it was read
		}
		for _, id := range root.Signed.Roles[RoleRoot].KeyIDs {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// Key describes a key that a root names, or a file that no root names (any more).
type Key struct {
	ID     string `json:"keyid"`
	Role   string `json:"role"`
	Holder int    `json:"holder,omitempty"` // of a root key: its number, by which its file is called
	File   string `json:"file,omitempty"`   // "" when the private half is elsewhere
	Active bool   `json:"active"`           // the newest root names it
}

// Keys lists the keys of the newest root, and then key files that it does not
// name: the channels key, which targets name and not the root, and old ones.
func (k *Keyring) Keys() ([]Key, error) {
	var list []Key
	seen := map[string]bool{}
	holders := k.allHolders()
	for _, role := range []string{RoleRoot, RoleTargets, RoleSnapshot, RoleTimestamp} {
		ids, _ := rootRole(k.root, role)
		for _, id := range ids {
			key := Key{ID: id, Role: role, File: k.files[id], Active: true}
			if role == RoleRoot {
				key.Holder = slices.Index(holders, id) + 1
			}
			list = append(list, key)
			seen[id] = true
		}
	}
	var others []Key
	for id, path := range k.files {
		if seen[id] {
			continue
		}
		key, err := readKeyFile(path)
		if err != nil {
			return nil, err
		}
		others = append(others, Key{ID: id, Role: key.Role, File: path})
	}
	slices.SortFunc(others, func(a, b Key) int { return strings.Compare(a.File, b.File) })
	return append(list, others...), nil
}

func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}
