package trust

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// holder is a directory with the newest root and some keys: what somebody has at home.
func (p *publisher) holder(files ...string) *Keyring {
	p.t.Helper()
	dir := filepath.Join(p.t.TempDir(), "home")
	if err := os.Mkdir(dir, 0o700); err != nil {
		p.t.Fatal(err)
	}
	for _, name := range append(files, "root.json") {
		if err := os.WriteFile(filepath.Join(dir, name), read(p.t, filepath.Join(p.keys.dir, name)), 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	return reopen(p.t, dir, p.keys)
}

// without takes key files away.
func (p *publisher) without(files ...string) {
	p.t.Helper()
	made := p.keys
	for _, name := range files {
		if err := os.Remove(filepath.Join(p.keys.dir, name)); err != nil {
			p.t.Fatal(err)
		}
	}
	p.keys = reopen(p.t, p.keys.dir, made)
}

// travel sends a request as a file.
func travel(t *testing.T, r *Request) *Request {
	t.Helper()
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeRequest(data)
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// The targets key is in a safe: a release is signed there, and comes back.
func TestTargetsAreSignedElsewhere(t *testing.T) {
	p := newPublisher(t)
	p.release("1.0.0")
	safe := p.holder("targets.key")
	p.without("targets.key", "root-1.key", "root-2.key", "root-3.key")
	e := p.open()
	if err := errors.Join(e.AddRelease(document(t, server, "1.1.0"), artifact("1.1.0")), e.SetChannel("stable", "1.1.0")); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Sign(ctx); !errors.Is(err, ErrNoKey) {
		t.Fatal(err)
	}
	r, err := e.Request()
	if err != nil {
		t.Fatal(err)
	}
	r = travel(t, r)
	want := []string{
		"adds release 1.1.0 of server (amd64), document sha256:",
		"moves channel stable of server (amd64) from 1.0.0 to 1.1.0",
		"targets 2 is good until 2027-12-01",
		"channels 2 is good until 2027-12-01",
	}
	if !slices.EqualFunc(r.Summary, want, strings.HasPrefix) {
		t.Errorf("it says %q", r.Summary)
	}
	if missing, err := r.Missing(); err != nil || len(missing) != 2 || missing[0] != "targets 2 has 0 signatures and needs 1" {
		t.Errorf("missing: %q, %v", missing, err)
	}
	if err := SignRequest(ctx, r, safe); err != nil {
		t.Fatal(err)
	}
	r = travel(t, r)
	if missing, err := r.Missing(); err != nil || len(missing) != 1 {
		t.Errorf("missing: %q, %v", missing, err)
	}
	m := p.machine()
	m.Root = p.keys.Root()
	files := p.publish(func(e *Editor) error { return e.Merge(r) }) // signs channels itself
	if got, err := mustRefresh(t, m, files).Channel("stable"); err != nil || got.Version != "1.1.0" {
		t.Errorf("stable: %v, %v", got, err)
	}
	if err := p.open().Merge(r); err == nil || err.Error() != `the repository "registry.example/acme/server" has changed since the request was made: make it again` {
		t.Error(err)
	}
	e, err = Open(ctx, p.keys, p.files, EditorOptions{Repository: "registry.example/acme/other", Now: at(today)})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Merge(r); err == nil || !strings.HasPrefix(err.Error(), `the request is for the repository "registry.example/acme/server", not for `) {
		t.Error(err)
	}
	if _, err := p.open().Request(); err == nil {
		t.Error("a request for nothing")
	}
}

// The first release of a repository, with the targets key elsewhere.
func TestFirstReleaseIsSignedElsewhere(t *testing.T) {
	p := newPublisher(t)
	safe := p.holder("targets.key")
	p.without("targets.key")
	e := p.open()
	if err := e.AddRelease(document(t, server, "1.0.0"), artifact("1.0.0")); err != nil {
		t.Fatal(err)
	}
	r, err := e.Request()
	if err != nil {
		t.Fatal(err)
	}
	if err := SignRequest(ctx, r, safe); err != nil {
		t.Fatal(err)
	}
	m := p.machine()
	m.Root = p.keys.Root()
	mustRefresh(t, m, p.publish(func(e *Editor) error { return e.Merge(travel(t, r)) }))
}

// Holders sign a new root at home, each a copy or one after the other.
func TestRootIsSignedElsewhere(t *testing.T) {
	for _, how := range []string{"copies", "in turn"} {
		t.Run(how, func(t *testing.T) {
			p := newPublisher(t)
			files := p.release("1.0.0")
			m := p.machine()
			mustRefresh(t, m, files)
			one, two := p.holder("root-1.key"), p.holder("root-2.key")
			p.without("root-1.key", "root-2.key", "root-3.key")
			c, err := p.keys.ChangeRoot(RootOptions{Now: at(today)})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(c.Replace(RoleTargets), c.Sign(ctx)); err != nil {
				t.Fatal(err)
			}
			r, err := c.Request()
			if err != nil {
				t.Fatal(err)
			}
			first := travel(t, r)
			if err := SignRequest(ctx, first, one); err != nil {
				t.Fatal(err)
			}
			if err := p.keys.MergeRoot(travel(t, first)); err == nil || !strings.HasPrefix(err.Error(), "root 2 needs 1 more of the holders of root 1") {
				t.Fatal(err)
			}
			second := travel(t, r)
			if how == "in turn" {
				second = travel(t, first)
			}
			if err := SignRequest(ctx, second, two); err != nil {
				t.Fatal(err)
			}
			if missing, err := second.Missing(); err != nil || (len(missing) == 0) != (how == "in turn") {
				t.Errorf("missing: %q, %v", missing, err)
			}
			// Somebody put a signature that is none before it.
			spoiled := travel(t, first)
			spoiled.Sign[RoleRoot] = json.RawMessage(strings.Replace(string(spoiled.Sign[RoleRoot]), `"sig":"`, `"sig":"00`, 1))
			all := []*Request{spoiled, first, second}
			if how == "in turn" {
				all = []*Request{second}
			}
			if err := p.keys.MergeRoot(all...); err != nil {
				t.Fatal(err)
			}
			v := mustRefresh(t, m, p.publish(nil))
			if v.Signed()[0].Version != 2 {
				t.Errorf("root %d", v.Signed()[0].Version)
			}
			if err := p.keys.MergeRoot(second); err == nil {
				t.Error("the same root again")
			}
			if err := SignRequest(ctx, r, p.holder()); err == nil || !strings.HasPrefix(err.Error(), "the request was made under root 1, and ") {
				t.Error(err)
			}
		})
	}
}

// A request that says one thing and does another.
func TestRequestsThatLie(t *testing.T) {
	p := newPublisher(t)
	p.release("1.0.0")
	safe := p.holder("targets.key", "root-1.key", "root-2.key")
	e := p.open()
	if err := e.AddRelease(document(t, server, "1.1.0"), artifact("1.1.0")); err != nil {
		t.Fatal(err)
	}
	honest, err := e.Request()
	if err != nil {
		t.Fatal(err)
	}
	evil, err := decodeTargets(honest.Sign[RoleTargets])
	if err != nil {
		t.Fatal(err)
	}
	evil.Signed.Targets["releases/server/amd64/6.6.6"] = entry(t, []byte("evil"), customRelease{artifact("x")})
	evilData := must(encode(evil))
	stranger, err := Init(ctx, filepath.Join(t.TempDir(), "keys"), InitOptions{Holders: 1, Threshold: 1, Passphrase: secrets, Now: at(today)})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		edit func(r *Request)
		want string
	}{
		"more than it says":      {func(r *Request) { r.Sign[RoleTargets] = evilData }, "the request says it "},
		"it was there before":    {func(r *Request) { r.Sign[RoleTargets], r.Before[RoleTargets] = evilData, evilData }, "the request says it "},
		"other roots":            {func(r *Request) { r.Roots = []json.RawMessage{stranger.Root()} }, "the request"},
		"no roots":               {func(r *Request) { r.Roots = nil }, "the request: it holds no root"},
		"a snapshot":             {func(r *Request) { r.Sign[RoleSnapshot] = evilData }, `the request: nobody signs the role "snapshot" by request`},
		"a root beside targets":  {func(r *Request) { r.Sign[RoleRoot] = p.keys.Root() }, "the request: it mixes a root with other files"},
		"nothing":                {func(r *Request) { r.Sign = nil }, "the request: it asks for nothing that is whole"},
		"a root that is no next": {func(r *Request) { r.Sign = map[string]json.RawMessage{RoleRoot: p.keys.Root()} }, "the request: root 1 does not follow root 1"},
	} {
		r := travel(t, honest)
		c.edit(r)
		before := maps.Clone(r.Sign)
		if err := SignRequest(ctx, r, safe); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if !maps.EqualFunc(before, r.Sign, func(a, b json.RawMessage) bool { return string(a) == string(b) }) {
			t.Errorf("%s: something was signed", name)
		}
	}
	for _, text := range []string{"", "{}", `{"schema": 2}`, `{"schema": 1, "more": 1}`, `{"schema": 1, "sign": null}`, `{"schema":1}{}`} {
		if _, err := DecodeRequest([]byte(text)); err == nil {
			t.Errorf("%q is a request", text)
		}
	}
}

// What was signed with a revoked key is compared with nothing, so that nothing
// it says goes unseen.
func TestRequestAfterATheft(t *testing.T) {
	p := newPublisher(t)
	p.release("1.0.0")
	p.rotate(func(c *RootChange) error { return c.Replace(RoleTargets) })
	e := p.open()
	if err := e.AddRelease(document(t, server, "1.1.0"), artifact("1.1.0")); err != nil {
		t.Fatal(err)
	}
	r, err := e.Request()
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Summary) < 2 || !strings.HasPrefix(r.Summary[0], "adds release 1.0.0") || !strings.HasPrefix(r.Summary[1], "adds release 1.1.0") {
		t.Errorf("it says %q", r.Summary)
	}
}
