package trust

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// nextRoot makes a root after the keyring's, signed by the given keys only.
func (p *publisher) nextRoot(edit func(*rootFile), by ...string) []byte {
	p.t.Helper()
	c, err := p.keys.ChangeRoot(RootOptions{Now: at(p.now)})
	if err != nil {
		p.t.Fatal(err)
	}
	if edit != nil {
		edit(c.next)
	}
	if err := sign(ctx, c.next, by, allKeys(p.keys.root, c.next), len(by), p.keys); err != nil {
		p.t.Fatal(err)
	}
	data, err := encode(c.next)
	if err != nil {
		p.t.Fatal(err)
	}
	return data
}

func allKeys(roots ...*rootFile) map[string]*metadata.Key {
	keys := map[string]*metadata.Key{}
	for _, r := range roots {
		maps.Copy(keys, r.Signed.Keys)
	}
	return keys
}

// stranger is a key that nobody knows.
func (p *publisher) stranger() fileSigner {
	p.t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	s := fileSigner{private}
	p.keys.Lend(s)
	return s
}

func with(files Files, name string, data []byte) Files {
	files = maps.Clone(files)
	files[name] = data
	return files
}

// Fewer than the threshold of holders.
func TestTooFewHolders(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	holders, _ := rootRole(p.keys.root, RoleRoot)
	m := p.machine()
	const want = "root 2 of this repository is signed by 1 of the 3 holders that root 1 names, and 2 must"

	refused(t, m, with(files, "2.root.json", p.nextRoot(nil, holders[0])), ErrUntrusted, want)

	// A thief of one holder's key, who makes a root of keys of their own.
	evil := p.stranger()
	takeover := func(r *rootFile) {
		key := tufKey(evil.Public())
		r.Signed.Keys[evil.KeyID()] = key
		for _, role := range r.Signed.Roles {
			role.KeyIDs, role.Threshold = []string{evil.KeyID()}, 1
		}
	}
	refused(t, m, with(files, "2.root.json", p.nextRoot(takeover, holders[0], evil.KeyID())), ErrUntrusted, want)

	// The same signature twice.
	once := p.nextRoot(nil, holders[0])
	root, err := decodeRoot(once)
	if err != nil {
		t.Fatal(err)
	}
	root.Signatures = append(root.Signatures, root.Signatures[0])
	twice, err := encode(root)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, m, with(files, "2.root.json", twice), ErrUntrusted,
		"the root of this repository is malformed: value error: multiple signatures found for key ID "+holders[0])

	// The same signature under the ids of two holders.
	root.Signatures[1].KeyID = holders[1]
	if twice, err = encode(root); err != nil {
		t.Fatal(err)
	}
	refused(t, m, with(files, "2.root.json", twice), ErrUntrusted, want)

	// Enough of the old holders, and not of the new ones.
	refused(t, m, with(files, "2.root.json", p.nextRoot(func(r *rootFile) { r.Signed.Roles[RoleRoot].Threshold = 3 }, holders[0], holders[1])),
		ErrUntrusted, "root 2 of this repository is signed by 2 of the 3 holders that root 2 names, and 3 must")
}

// One key under two ids, whose holder alone would reach the threshold. It would
// take a root that is made so; the form of a root rules it out.
func TestOneKeyUnderTwoIDs(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	holders, _ := rootRole(p.keys.root, RoleRoot)
	alias := func(r *rootFile) {
		key := *r.Signed.Keys[holders[0]]
		r.Signed.Keys[strings.Repeat("a", 64)] = &key
		r.Signed.Roles[RoleRoot].KeyIDs = append(r.Signed.Roles[RoleRoot].KeyIDs, strings.Repeat("a", 64))
	}
	refused(t, p.machine(), with(files, "2.root.json", p.nextRoot(alias, holders[0], holders[1])), ErrUntrusted,
		`the root of this repository is malformed: key "aaaaaaaaaaaa" is not the key that this id stands for`)
	// Unknown fields are part of the id, and make a second one for the same key.
	twin := func(r *rootFile) {
		key := tufKey(must(hex.DecodeString(r.Signed.Keys[holders[0]].Value.PublicKey)))
		key.UnrecognizedFields = map[string]any{"x": "y"}
		id := must(key.ID())
		r.Signed.Keys[id] = key
		r.Signed.Roles[RoleRoot].KeyIDs = append(r.Signed.Roles[RoleRoot].KeyIDs, id)
	}
	refused(t, p.machine(), with(files, "2.root.json", p.nextRoot(twin, holders[0], holders[1])), ErrUntrusted,
		"the root of this repository is malformed: one key stands there under two ids")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// What is signed by everybody and still not a root.
func TestRootForm(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	holders, _ := rootRole(p.keys.root, RoleRoot)
	targets, _ := rootRole(p.keys.root, RoleTargets)
	for _, c := range []struct {
		edit func(*rootFile)
		want string
	}{
		{func(r *rootFile) { r.Signed.Version++ }, "a new root of this repository does not have the number that follows"},
		{func(r *rootFile) { r.Signed.Version-- }, "a new root of this repository does not have the number that follows"},
		{func(r *rootFile) { r.Signed.Version = -1 }, "the root of this repository is malformed: its number -1 is not between 1 and 2147483647"},
		{func(r *rootFile) { r.Signed.Version = 1 << 40 }, "the root of this repository is malformed: its number 1099511627776 is not between 1 and 2147483647"},
		{func(r *rootFile) { r.Signed.Roles[RoleTargets].Threshold = 0 }, `the root of this repository is malformed: the role "targets" wants 0 signatures of 1 keys`},
		{func(r *rootFile) { r.Signed.Roles[RoleRoot].Threshold = -1 }, `the root of this repository is malformed: the role "root" wants -1 signatures of 3 keys`},
		{func(r *rootFile) { r.Signed.Roles[RoleTargets].KeyIDs = nil }, "the root of this repository is malformed: a value is null"},
		{func(r *rootFile) { r.Signed.Roles[RoleTargets].KeyIDs = []string{} }, `the root of this repository is malformed: the role "targets" wants 1 signatures of 0 keys`},
		{func(r *rootFile) {
			r.Signed.Roles[RoleTargets] = &metadata.Role{KeyIDs: []string{targets[0], targets[0]}, Threshold: 2}
		}, fmt.Sprintf(`the root of this repository is malformed: the role "targets" lists key "%.12s" twice`, targets[0])},
		{func(r *rootFile) {
			delete(r.Signed.Roles, RoleTimestamp)
			r.Signed.Roles["x"] = r.Signed.Roles[RoleRoot]
		}, `the root of this repository is malformed: it has no role "timestamp"`},
		{func(r *rootFile) { delete(r.Signed.Keys, targets[0]) }, fmt.Sprintf(`the root of this repository is malformed: the role "targets" lists key "%.12s", which is not there`, targets[0])},
		{func(r *rootFile) { r.Signed.Keys[targets[0]] = nil }, "the root of this repository is malformed: a value is null"},
		{func(r *rootFile) { r.Signed.Keys[targets[0]].Value.PublicKey = "00" }, fmt.Sprintf(`the root of this repository is malformed: key "%.12s" has no 32 bytes`, targets[0])},
		{func(r *rootFile) { r.Signed.Keys[targets[0]].Type = "rsa" }, fmt.Sprintf(`the root of this repository is malformed: key "%.12s" is of type "rsa", want "ed25519"`, targets[0])},
		{func(r *rootFile) { r.Signed.ConsistentSnapshot = false }, "the root of this repository is malformed: it has no consistent snapshots"},
		{func(r *rootFile) { r.Signed.SpecVersion = "2.0" }, `the root of this repository is malformed: it follows version "2.0" of the TUF specification, and this ashlar reads 1.x`},
	} {
		refused(t, p.machine(), with(files, "2.root.json", p.nextRoot(c.edit, holders[0], holders[1])), ErrUntrusted, c.want)
	}
}

// A machine that slept follows every root, one by one, and not without end.
func TestRootsOneByOne(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	m, kept := p.machine(), p.machine()
	mustRefresh(t, kept, files)
	for n := range 4 {
		p.rotate(func(c *RootChange) error {
			ids, _ := rootRole(c.next, RoleRoot)
			return errors.Join(c.ReplaceHolder(ids[0]), c.SetThreshold(2+n%2))
		})
	}
	p.release("1.1.0")
	for _, m := range []*Client{m, kept} {
		v := mustRefresh(t, m, p.files)
		if got := v.Signed()[0]; got.Version != 5 || got.Threshold != 3 || len(got.Signers) < 3 {
			t.Errorf("root: %+v", got)
		}
	}
	// One of the roots between is missing: what follows cannot be believed.
	gap := maps.Clone(p.files)
	delete(gap, "3.root.json")
	fresh := p.machine()
	v, err := fresh.Refresh(ctx, gap)
	if err == nil && v.Signed()[0].Version != 2 {
		t.Errorf("followed a gap to root %d", v.Signed()[0].Version)
	}
}

func TestRootsWithoutEnd(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	for range maxRootSteps + 1 {
		next := p.nextRoot(nil, must2(rootRole(p.keys.root, RoleRoot))...)
		root, err := decodeRoot(next)
		if err != nil {
			t.Fatal(err)
		}
		p.keys.root, p.keys.roots[root.Signed.Version] = root, next
		files[FileName(RoleRoot, root.Signed.Version)] = next
	}
	m := p.machine()
	m.Root = p.keys.roots[1]
	if _, err := m.Refresh(ctx, files); err == nil || err.Error() != "the root of this repository was replaced more than 256 times" {
		t.Error(err)
	}
}

func must2(ids []string, _ int) []string { return ids }

// A machine that saw the new root remembers the revocation, although the rest of
// what it was shown then was no good.
func TestRevocationIsRemembered(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	th := p.steals(RoleTimestamp)
	m := p.machine()
	mustRefresh(t, m, files)
	p.rotate(func(c *RootChange) error { return c.Replace(RoleTimestamp) })
	half := with(files, "2.root.json", p.keys.Root())
	if _, err := m.Refresh(ctx, half); !errors.Is(err, ErrUntrusted) {
		t.Fatal(err)
	}
	forged := th.forge(files, func(*forgery) {})
	addStolenSnapshot(forged, files)
	refused(t, m, forged, ErrUntrusted, "the timestamp of this repository is not signed by the key that must")
	mustRefresh(t, m, p.publish(nil))
}

// A thief of snapshot and timestamp signs the highest numbers there are. With
// the keys the numbers are forgotten, on machines and by the publisher.
func TestFastForward(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	m := p.machine()
	th := p.steals(RoleSnapshot, RoleTimestamp)
	forged := th.forge(files, func(f *forgery) {
		f.snapshot.Signed.Version, f.stamp.Signed.Version = maxVersion, maxVersion
		far := today.Add(6 * day).Format("2006-01-02T15:04:05Z")
		f.stamp.Signed.UnrecognizedFields[signedAt] = far
	})
	mustRefresh(t, m, forged)
	p.files = forged
	if _, err := p.open().Sign(ctx); err == nil || !strings.Contains(err.Error(), "highest number there is") {
		t.Fatal(err)
	}
	p.rotate(func(c *RootChange) error { return errors.Join(c.Replace(RoleSnapshot), c.Replace(RoleTimestamp)) })
	v := mustRefresh(t, m, p.release("1.1.0"))
	if s := v.Signed(); s[3].Version != 1 || s[4].Version != 1 {
		t.Errorf("snapshot %d, timestamp %d", s[3].Version, s[4].Version)
	}
	if !v.Time().Equal(today) {
		t.Errorf("the thief's time is believed still: %s", v.Time())
	}
	if v := mustRefresh(t, m, p.files); !v.Unchanged {
		t.Error("not kept")
	}
}

// Another publisher's image, with a root of its own.
func TestAnotherPublishersRepository(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	other, err := Init(ctx, t.TempDir()+"/keys", InitOptions{Holders: 1, Threshold: 1, Passphrase: secrets, Now: at(today)})
	if err != nil {
		t.Fatal(err)
	}
	m := p.machine()
	m.Root = other.Root()
	refused(t, m, files, ErrUntrusted, "the timestamp of this repository is not signed by the key that must")
	m.Root = nil
	refused(t, m, files, ErrUntrusted, "the first root: the root of this repository is malformed: it is not a JSON object")
}
