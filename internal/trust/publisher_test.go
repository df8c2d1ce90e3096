package trust

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A registry that lies to the publisher.
func TestPublisherIsNotFooled(t *testing.T) {
	p := newPublisher(t)
	old := p.release("1.0.0")
	p.release("1.1.0")
	open := func(src Source) error {
		_, err := Open(ctx, p.keys, src, EditorOptions{Repository: p.name, Now: at(p.now)})
		return err
	}
	if err := open(old); !errors.Is(err, ErrRollback) {
		t.Errorf("an older state: %v", err)
	}
	if err := open(nil); !errors.Is(err, ErrRollback) || err.Error() != `the repository "registry.example/acme/server" holds no signed metadata, and it did before: somebody shows it the past` {
		t.Errorf("no state: %v", err)
	}
	th := p.steals()
	if err := open(th.forge(p.files, func(*forgery) {})); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a forged state: %v", err)
	}
	// Expiry does not keep a publisher from renewing.
	p.now = today.Add(30 * day)
	m := p.machine()
	refused(t, m, p.files, ErrStale, "the timestamp of this repository expired on 2026-12-08 and this machine's clock says 2026-12-31: nothing newer was published, or somebody holds it back")
	mustRefresh(t, m, p.publish(nil))
}

// A CI has the online keys, the newest root, and nothing else.
func TestOnlineKeysOnly(t *testing.T) {
	p := newPublisher(t)
	p.release("1.0.0")
	ci := filepath.Join(t.TempDir(), "ci")
	if err := os.Mkdir(ci, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"root.json", "snapshot.key", "timestamp.key"} {
		if err := os.WriteFile(filepath.Join(ci, name), read(t, filepath.Join(p.keys.dir, name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	online := &publisher{t: t, keys: reopen(t, ci, p.keys), files: p.files, now: today.Add(6 * day), name: p.name}
	before := p.files
	m := p.machine()
	m.Now = at(online.now)
	v := mustRefresh(t, m, online.publish(nil))
	if got := v.Expires()[RoleTimestamp]; !got.Equal(online.now.Add(7 * day)) {
		t.Errorf("the timestamp expires %s", got)
	}
	if string(online.files["1.targets.json"]) != string(before["1.targets.json"]) {
		t.Error("targets changed")
	}
	e := online.open()
	if err := e.Withdraw("1.0.0", "broken"); err != nil {
		t.Fatal(err)
	}
	_, err := e.Sign(ctx)
	if !errors.Is(err, ErrNoKey) || !strings.HasPrefix(err.Error(), `the channels of the repository "registry.example/acme/server" must be signed, and `) {
		t.Error(err)
	}
	// The main publisher goes on from there, and rotates; CI follows by itself.
	p.files, p.now = online.files, online.now
	p.rotate(func(c *RootChange) error { return c.SetThreshold(3) })
	online.files = p.release("1.1.0")
	online.publish(nil)
	if got := online.keys.root.Signed.Version; got != 2 {
		t.Errorf("CI knows root %d", got)
	}
	if v := mustRefresh(t, m, online.files); v.Signed()[0].Version != 2 {
		t.Error("the machine did not follow")
	}
}

func TestEditorRefuses(t *testing.T) {
	p := newPublisher(t)
	p.release("1.0.0")
	p.release("1.1.0")
	for _, c := range []struct {
		edit func(e *Editor) error
		want string
	}{
		{func(e *Editor) error { return e.SetChannel("stable", "6.6.6") }, `no release "6.6.6" of server (amd64) is signed in the repository "registry.example/acme/server"`},
		{func(e *Editor) error { return e.SetChannel("1.0", "1.0.0") }, `channel "1.0" begins with a digit, as only versions do`},
		{func(e *Editor) error { return e.SetChannel("../x", "1.0.0") }, `channel "../x" contains '/', which is not allowed there`},
		{func(e *Editor) error { return e.Withdraw("6.6.6", "x") }, `no release "6.6.6" of server (amd64) is signed in the repository "registry.example/acme/server"`},
		{func(e *Editor) error { return e.Withdraw("1.0.0", " ") }, `the reason " " is not a line of 1 to 500 bytes`},
		{func(e *Editor) error { return e.Withdraw("1.0.0", "\x1b[2J") }, `the reason "\x1b[2J" is not a line of 1 to 500 bytes`},
		{func(e *Editor) error { return e.Reinstate("1.0.0") }, "release 1.0.0 of server (amd64) is not withdrawn"},
		{func(e *Editor) error { return e.RemoveRelease("1.1.0") }, `channel "stable" names release 1.1.0: let it name another one first`},
		{func(e *Editor) error { return e.RemoveChannel("testing") }, `the repository "registry.example/acme/server" has no channel "testing" of server (amd64)`},
		{func(e *Editor) error { return e.Renew(RoleRoot) }, `the file of the role "root" cannot be renewed in a repository`},
		{func(e *Editor) error { return e.AddRelease([]byte("{}"), artifact("x")) }, `reading release document: field "schema" is missing`},
		{func(e *Editor) error { return e.AddRelease(document(t, server, "2.0.0"), "sha256:short") }, `the artifact's digest "sha256:short" is not a sha256`},
		{func(e *Editor) error {
			return e.AddRelease(document(t, Target{"desktop", "amd64"}, "2.0.0"), artifact("x"))
		}, `the repository "registry.example/acme/server" publishes server (amd64), and desktop (amd64) needs one of its own`},
		{func(e *Editor) error {
			other := strings.Replace(string(document(t, server, "1.0.0")), `"bytes": 12345`, `"bytes": 12346`, 1)
			return e.AddRelease([]byte(other), artifact("1.0.0"))
		}, "release 1.0.0 of server (amd64) is signed already, with another document: give the new one another version"},
	} {
		if err := c.edit(p.open()); err == nil || err.Error() != c.want {
			t.Errorf("%v\nwant %s", err, c.want)
		}
	}
	if _, err := Open(ctx, p.keys, p.files, EditorOptions{}); err == nil {
		t.Error("a repository without a name")
	}
}

func TestChanges(t *testing.T) {
	p := newPublisher(t)
	p.release("1.0.0")
	p.release("1.1.0")
	e := p.open()
	if lines, err := e.Changes(); err != nil || len(lines) != 0 {
		t.Errorf("nothing: %q, %v", lines, err)
	}
	err := errors.Join(
		e.SetChannel("stable", "1.0.0"), e.SetChannel("testing", "1.0.0"), e.Withdraw("1.0.0", "broken"), e.RemoveRelease("1.1.0"),
		e.AddRelease(document(t, server, "1.2.0"), artifact("1.2.0")),
	)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := e.Changes()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"withdraws release 1.0.0 of server (amd64): broken",
		"removes release 1.1.0 of server (amd64)",
		"adds release 1.2.0 of server (amd64), document sha256:",
		"moves channel stable of server (amd64) from 1.1.0 to 1.0.0",
		"adds channel testing of server (amd64), which names 1.0.0",
	}
	if !slices.EqualFunc(lines, want, strings.HasPrefix) {
		t.Errorf("it says\n%s", strings.Join(lines, "\n"))
	}
	p.publish(func(e *Editor) error { return e.SetChannel("testing", "1.0.0") })
	v := mustRefresh(t, p.machine(), p.publish(func(e *Editor) error { return e.RemoveChannel("testing") }))
	if got := v.Channels(); !maps.Equal(got, map[string]string{"stable": "1.1.0"}) {
		t.Errorf("channels: %v", got)
	}
}

// The same release again changes neither targets nor channels.
func TestSameReleaseAgain(t *testing.T) {
	p := newPublisher(t)
	one := p.release("1.0.0")
	p.now = today.Add(day)
	two := p.release("1.0.0")
	for _, name := range []string{"1.targets.json", "1.channels.json", "1.root.json"} {
		if string(one[name]) != string(two[name]) {
			t.Errorf("%s changed", name)
		}
	}
	if len(two) != 5 {
		t.Errorf("files: %q", two.Names())
	}
	p.publish(func(e *Editor) error { return e.Renew(RoleTargets, RoleChannels) })
	v := mustRefresh(t, p.machine(), p.files)
	if got := v.Expires()[RoleTargets]; !got.Equal(p.now.Add(365 * day)) {
		t.Errorf("targets expire %s", got)
	}
}

// The channels key is stolen: targets names another one.
func TestReplaceChannelsKey(t *testing.T) {
	p := newPublisher(t)
	p.release("1.0.0")
	files := p.release("1.1.0")
	th := p.steals(RoleChannels, RoleSnapshot, RoleTimestamp)
	evil := func(f *forgery) {
		f.channels.Signed.Version += 5
		f.channels.Signed.Targets["channels/server/amd64/stable"] = entry(t, document(t, server, "1.0.0"), customChannel{"1.0.0"})
	}
	mustRefresh(t, p.machine(), th.forge(files, evil))
	m := p.machine()
	mustRefresh(t, m, p.publish(func(e *Editor) error { return e.ReplaceChannelsKey() }))
	if _, err := os.Stat(filepath.Join(p.keys.dir, "channels-2.key")); err != nil {
		t.Error(err)
	}
	refused(t, m, th.forge(p.files, evil), ErrUntrusted, "the channels of this repository are not signed by the key that must")
	mustRefresh(t, m, p.release("1.2.0"))
}

// Roots are changed as their holders want, within what can be.
func TestChangeRootRefuses(t *testing.T) {
	p := newPublisher(t)
	ids, _ := rootRole(p.keys.root, RoleRoot)
	for _, c := range []struct {
		edit func(c *RootChange) error
		want string
	}{
		{func(c *RootChange) error { return c.SetThreshold(4) }, "4 of 3 holders cannot sign: the threshold must be between 1 and 3"},
		{func(c *RootChange) error { return c.SetThreshold(0) }, "0 of 3 holders cannot sign: the threshold must be between 1 and 3"},
		{func(c *RootChange) error { return c.RevokeHolder("0123") }, `root 1 has no holder with the key "0123"`},
		{func(c *RootChange) error { return errors.Join(c.RevokeHolder(ids[0]), c.RevokeHolder(ids[1])) }, "1 holders would be left, and 2 must sign a root: add a holder or lower the threshold first"},
		{func(c *RootChange) error { return c.Replace(RoleChannels) }, `the role "channels" has no key in the root that could be replaced as a whole`},
	} {
		change, err := p.keys.ChangeRoot(RootOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.edit(change); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	change, err := p.keys.ChangeRoot(RootOptions{Now: at(today)})
	if err != nil {
		t.Fatal(err)
	}
	if err := change.RevokeHolder(ids[2]); err != nil {
		t.Fatal(err)
	}
	want := []string{"root 2 is good until 2028-11-30", "revokes the root key " + ids[2][:12] + "…"}
	if got := change.Changes(); !slices.Equal(got, want) {
		t.Errorf("it says %q", got)
	}
	if err := change.Commit(); err == nil || !strings.HasPrefix(err.Error(), "root 2 needs 2 more of the holders of root 1 (keys ") {
		t.Error(err)
	}
	if err := errors.Join(change.Sign(ctx), change.Commit()); err != nil {
		t.Fatal(err)
	}
	if k := reopen(t, p.keys.dir, p.keys); k.root.Signed.Version != 2 {
		t.Errorf("root %d", k.root.Signed.Version)
	}
	// The file of a holder who left stays, and is not in use.
	if key, err := p.keys.Find("root-3"); err != nil || key.Active {
		t.Errorf("%+v, %v", key, err)
	}
	// The next holder's file has a number of its own.
	p.rotate(func(c *RootChange) error { return c.AddHolder() })
	if key, err := p.keys.Find("root-4"); err != nil || !key.Active {
		t.Errorf("%+v, %v", key, err)
	}
}

// Publishers renew in time or not at all: what would not verify is not handed out.
func TestSignVerifiesItsWork(t *testing.T) {
	p := newPublisher(t)
	p.release("1.0.0")
	p.now = today.Add(366 * day)
	_, err := p.open().Sign(ctx)
	if !errors.Is(err, ErrStale) || !strings.HasPrefix(err.Error(), "what was signed does not verify: the targets of this repository expired on 2027-12-01") {
		t.Error(err)
	}
	p.publish(func(e *Editor) error { return e.Renew(RoleTargets, RoleChannels) })
	if e := p.open(); e.Published(ctx) == nil {
		t.Error("published what was never signed")
	}
}

func TestExpiryIsThePublishers(t *testing.T) {
	p := newPublisher(t)
	e, err := Open(ctx, p.keys, nil, EditorOptions{Repository: p.name, Now: at(today), Expiry: Expiry{Timestamp: time.Hour, Targets: 48 * time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	files, err := e.Sign(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got := mustRefresh(t, p.machine(), files).Expires()
	want := map[string]time.Time{
		RoleRoot: today.Add(730 * day), RoleTargets: today.Add(2 * day), RoleChannels: today.Add(2 * day),
		RoleSnapshot: today.Add(14 * day), RoleTimestamp: today.Add(time.Hour),
	}
	if !maps.EqualFunc(got, want, time.Time.Equal) {
		t.Errorf("%v", got)
	}
}
