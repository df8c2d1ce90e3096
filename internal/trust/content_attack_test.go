package trust

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Names that lead elsewhere, signed by a thief of every online key.
func TestNames(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	th := p.steals(RoleTargets, RoleChannels, RoleSnapshot, RoleTimestamp)
	for name, want := range map[string]string{
		"releases/../amd64/1.0.0":         `the targets of this repository: the name "releases/../amd64/1.0.0" is not one that ashlar gives`,
		"/etc/passwd":                     `the targets of this repository: the name "/etc/passwd" is not one that ashlar gives`,
		"releases/server/amd64":           `the targets of this repository: the name "releases/server/amd64" has 3 parts, want 4`,
		"releases/server/amd64/1.0.0/x":   `the targets of this repository: the name "releases/server/amd64/1.0.0/x" has 5 parts, want 4`,
		"releases/server/amd64/latest":    `the targets of this repository: the name "releases/server/amd64/latest": version "latest" does not begin with a digit`,
		"releases/Server/amd64/1.0.0":     `the targets of this repository: the name "releases/Server/amd64/1.0.0": name "Server" contains 'S', which is not allowed there`,
		"channels/server/amd64/stable":    `the targets of this repository hold "channels/server/amd64/stable", which belongs to its channels`,
		"releases/server/amd64/1\x1b[2J":  `the targets of this repository: the name "releases/server/amd64/1\x1b[2J" is not one that ashlar gives`,
		"releases/server/amd64/1.0.0\x00": `the targets of this repository: the name "releases/server/amd64/1.0.0\x00" is not one that ashlar gives`,
	} {
		forged := th.forge(files, func(f *forgery) {
			f.targets.Signed.Version++
			f.targets.Signed.Targets[name] = entry(t, []byte("x"), customRelease{Artifact: artifact("x")})
		})
		refused(t, p.machine(), forged, ErrUntrusted, want)
	}
}

// A kind of target, and fields, that a later ashlar may sign.
func TestUnknownIsLetBe(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	th := p.steals(RoleTargets, RoleSnapshot, RoleTimestamp)
	forged := th.forge(files, func(f *forgery) {
		f.targets.Signed.Version++
		f.targets.Signed.UnrecognizedFields = map[string]any{"ashlar-later": map[string]any{"a": "b"}}
		f.snapshot.Signed.UnrecognizedFields["x"] = []any{"y", true}
		f.targets.Signed.Targets["deltas/server/amd64/1.0.0/1.1.0"] = entry(t, []byte("delta"), map[string]string{"later": "yes"})
	})
	v := mustRefresh(t, p.machine(), forged)
	if len(v.Releases()) != 1 {
		t.Errorf("releases: %v", v.Releases())
	}
	// Unknown, and signed all the same: it cannot be changed.
	evil := maps.Clone(forged)
	evil["timestamp.json"] = []byte(strings.Replace(string(evil["timestamp.json"]), `"ashlar-signed-at":"2026`, `"ashlar-signed-at":"2025`, 1))
	refused(t, p.machine(), evil, ErrUntrusted, "the timestamp of this repository is not signed by the key that must")
}

// A valid release of another image, and of another architecture, by the same keys.
func TestAnotherImage(t *testing.T) {
	p := newPublisher(t)
	desktop := &publisher{t: t, keys: p.keys, now: today, name: "registry.example/acme/desktop"}
	one := func(image Target) func(*Editor) error {
		return func(e *Editor) error { return e.AddRelease(document(t, image, "1.0.0"), artifact("1.0.0")) }
	}
	m := p.machine()
	refused(t, m, desktop.publish(one(Target{"desktop", "amd64"})), ErrUntrusted, "this repository publishes desktop (amd64), not server (amd64)")
	p.publish(one(Target{"server", "arm64"}))
	refused(t, m, p.files, ErrUntrusted, "this repository publishes server (arm64), not server (amd64)")
	v := mustRefresh(t, m, p.publish(one(server))) // one repository may hold several architectures
	if len(v.Releases()) != 1 {
		t.Errorf("releases: %v", v.Releases())
	}
	// A machine that knows its own repository is not led into another.
	refused(t, m, desktop.files, ErrRollback, "this repository shows timestamp 1, and this machine accepted 2 before: somebody shows it the past")
}

// The channels key alone.
func TestChannelThief(t *testing.T) {
	p := newPublisher(t)
	p.release("1.0.0")
	files := p.release("1.1.0")
	th := p.steals(RoleChannels, RoleSnapshot, RoleTimestamp)
	const stable = "channels/server/amd64/stable"

	evil := th.forge(files, func(f *forgery) {
		f.channels.Signed.Version++
		f.channels.Signed.Targets[stable] = entry(t, document(t, server, "6.6.6"), customChannel{"6.6.6"})
	})
	refused(t, p.machine(), evil, ErrUntrusted, `channel "stable" points at release "6.6.6" of server (amd64), which the targets key never signed`)

	evil = th.forge(files, func(f *forgery) { // another document under a true version
		f.channels.Signed.Version++
		f.channels.Signed.Targets[stable] = entry(t, []byte("another document"), customChannel{"1.1.0"})
	})
	refused(t, p.machine(), evil, ErrUntrusted, `channel "stable" points at release "1.1.0" of server (amd64), which the targets key never signed`)

	evil = th.forge(files, func(f *forgery) { // a release in channels.json
		f.channels.Signed.Version++
		f.channels.Signed.Targets["releases/server/amd64/6.6.6"] = entry(t, []byte("x"), customRelease{artifact("x")})
	})
	refused(t, p.machine(), evil, ErrUntrusted, `the channels of this repository hold "releases/server/amd64/6.6.6", which only the targets key may sign`)

	evil = th.forge(files, func(f *forgery) {
		f.channels.Signed.Version++
		f.channels.Signed.Targets["withdrawn/server/amd64/9"] = entry(t, []byte("x"), Withdrawal{"no reason", today})
	})
	refused(t, p.machine(), evil, ErrUntrusted, "the channels of this repository withdraw release 9 of server (amd64), which the targets key never signed")

	// What this thief can do: choose among what was signed. A machine sees that
	// the channel names an older release than it runs.
	old := document(t, server, "1.0.0")
	moved := th.forge(files, func(f *forgery) {
		f.channels.Signed.Version++
		f.channels.Signed.Targets[stable] = entry(t, old, customChannel{"1.0.0"})
	})
	r, err := mustRefresh(t, p.machine(), moved).Channel("stable")
	if err != nil || r.Version != "1.0.0" || r.DocumentDigest != digest.FromBytes(old) {
		t.Errorf("stable is %v, %v", r, err)
	}
}

func TestWithdrawn(t *testing.T) {
	p := newPublisher(t)
	p.release("1.0.0")
	p.release("1.1.0")
	v := mustRefresh(t, p.machine(), p.publish(func(e *Editor) error { return e.Withdraw("1.1.0", "its sshd lets everybody in") }))
	r, err := v.Channel("stable")
	if err != nil || r.Withdrawn == nil || r.Withdrawn.Reason != "its sshd lets everybody in" || !r.Withdrawn.At.Equal(today) {
		t.Errorf("stable is %+v, %v", r.Withdrawn, err)
	}
	if v.Withdrawn("1.0.0") != nil || v.Withdrawn("1.1.0") == nil || v.Withdrawn("6.6.6") != nil {
		t.Error("the wrong release is withdrawn")
	}
	err = p.open().SetChannel("testing", "1.1.0")
	if err == nil || err.Error() != "release 1.1.0 was withdrawn (its sshd lets everybody in), so no channel can name it" {
		t.Error(err)
	}
	v = mustRefresh(t, p.machine(), p.publish(func(e *Editor) error { return e.Reinstate("1.1.0") }))
	if v.Withdrawn("1.1.0") != nil {
		t.Error("it is withdrawn still")
	}
}

// Targets that hand more to the channels role than it may have.
func TestWiderDelegation(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	th := p.steals(RoleTargets, RoleSnapshot, RoleTimestamp)
	for _, edit := range []func(*metadata.Delegations){
		func(d *metadata.Delegations) { d.Roles[0].Paths = []string{"*/*/*/*"} },
		func(d *metadata.Delegations) { d.Roles[0].Threshold = 0 },
		func(d *metadata.Delegations) { d.Roles[0].KeyIDs = append(d.Roles[0].KeyIDs, d.Roles[0].KeyIDs[0]) },
		func(d *metadata.Delegations) {
			d.Roles = append(d.Roles, metadata.DelegatedRole{Name: "more", KeyIDs: d.Roles[0].KeyIDs, Threshold: 1, Paths: []string{"releases/*/*/*"}})
		},
		func(d *metadata.Delegations) {
			d.Roles = nil
			d.SuccinctRoles = &metadata.SuccinctRoles{KeyIDs: []string{}, Threshold: 1, BitLength: 8, NamePrefix: "x"}
		},
	} {
		m := p.machine()
		forged := th.forge(files, func(f *forgery) { f.targets.Signed.Version++; edit(f.targets.Signed.Delegations) })
		if _, err := m.Refresh(ctx, forged); !errors.Is(err, ErrUntrusted) {
			t.Errorf("accepted, or %v", err)
		}
	}
}
