package trust

import (
	"encoding/json"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"errors"
)

// thief has some keys of a publisher, and the registry.
type thief struct {
	t       *testing.T
	root    *rootFile
	stolen  Signers
	now     time.Time
	expires time.Duration
}

// stolen is a set of keys.
type stolen struct {
	*Keyring
	ids []string
}

func (s stolen) Has(id string) bool {
	for _, have := range s.ids {
		if have == id {
			return s.Keyring.Has(id)
		}
	}
	return false
}

// steals copies the keys of some roles as they are now.
func (p *publisher) steals(roles ...string) *thief {
	p.t.Helper()
	root, err := decodeRoot(p.keys.Root())
	if err != nil {
		p.t.Fatal(err)
	}
	var ids []string
	for _, role := range roles {
		if role == RoleChannels {
			id, err := p.keys.newest(RoleChannels)
			if err != nil {
				p.t.Fatal(err)
			}
			ids = append(ids, id)
			continue
		}
		more, _ := rootRole(root, role)
		ids = append(ids, more...)
	}
	return &thief{t: p.t, root: root, stolen: stolen{p.keys, ids}, now: p.now, expires: 7 * 24 * time.Hour}
}

// forgery is a state that a thief makes up from another one.
type forgery struct {
	targets, channels *targetsFile
	snapshot          *snapshotFile
	stamp             *timestampFile
}

// forge changes a state and signs what changed, and all above it, with the keys
// that were stolen. What the thief has no key for keeps its signatures, which
// are worth nothing then.
func (th *thief) forge(base Files, edit func(*forgery)) Files {
	th.t.Helper()
	must := func(err error) {
		if err != nil {
			th.t.Helper()
			th.t.Fatal(err)
		}
	}
	var f forgery
	var err error
	f.stamp, err = decodeTimestamp(base["timestamp.json"])
	must(err)
	old := map[string]int64{RoleSnapshot: f.stamp.Signed.Meta["snapshot.json"].Version}
	f.snapshot, err = decodeSnapshot(base[FileName(RoleSnapshot, old[RoleSnapshot])])
	must(err)
	for _, role := range []string{RoleTargets, RoleChannels} {
		old[role] = f.snapshot.Signed.Meta[role+".json"].Version
	}
	f.targets, err = decodeTargets(base[FileName(RoleTargets, old[RoleTargets])])
	must(err)
	f.channels, err = decodeChannels(base[FileName(RoleChannels, old[RoleChannels])])
	must(err)
	stampVersion, snapshotVersion := f.stamp.Signed.Version, f.snapshot.Signed.Version
	targetsWere, channelsWere := canonical(th.t, f.targets), canonical(th.t, f.channels)
	edit(&f)

	files := maps.Clone(base)
	for _, role := range []string{RoleTargets, RoleChannels, RoleSnapshot} {
		delete(files, FileName(role, old[role]))
	}
	data := base[FileName(RoleTargets, old[RoleTargets])]
	ids, threshold := rootRole(th.root, RoleTargets)
	if canonical(th.t, f.targets) != targetsWere {
		f.targets.Signed.Expires = th.now.Add(th.expires)
		must(sign(ctx, f.targets, ids, th.root.Signed.Keys, threshold, resigned{th.stolen, f.targets.ClearSignatures}))
		data, err = encode(f.targets)
		must(err)
	}
	addMeta(files, f.snapshot.Signed.Meta, RoleTargets, f.targets.Signed.Version, data)
	data = base[FileName(RoleChannels, old[RoleChannels])]
	if canonical(th.t, f.channels) != channelsWere {
		f.channels.Signed.Expires = th.now.Add(th.expires)
		if d := f.targets.Signed.Delegations; d != nil {
			must(sign(ctx, f.channels, d.Roles[0].KeyIDs, d.Keys, d.Roles[0].Threshold, resigned{th.stolen, f.channels.ClearSignatures}))
		}
		data, err = encode(f.channels)
		must(err)
	}
	addMeta(files, f.snapshot.Signed.Meta, RoleChannels, f.channels.Signed.Version, data)
	if f.snapshot.Signed.Version == snapshotVersion {
		f.snapshot.Signed.Version++
	}
	f.snapshot.Signed.Expires = th.now.Add(th.expires)
	f.snapshot.ClearSignatures()
	data, err = signOnline(ctx, f.snapshot, th.root, RoleSnapshot, th.stolen)
	must(err)
	addMeta(files, f.stamp.Signed.Meta, RoleSnapshot, f.snapshot.Signed.Version, data)
	if f.stamp.Signed.Version == stampVersion {
		f.stamp.Signed.Version++
	}
	f.stamp.Signed.Expires = th.now.Add(th.expires)
	f.stamp.ClearSignatures()
	data, err = signOnline(ctx, f.stamp, th.root, RoleTimestamp, th.stolen)
	must(err)
	files["timestamp.json"] = data
	return files
}

// resigned lets a signature be made again.
type resigned struct {
	Signers
	clear func()
}

func canonical(t *testing.T, f *targetsFile) string {
	t.Helper()
	data, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// entry makes a target as a thief would.
func entry(t *testing.T, document []byte, custom any) *metadata.TargetFiles {
	t.Helper()
	target, err := metadata.TargetFile().FromBytes("x", document, "sha256")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(custom)
	if err != nil {
		t.Fatal(err)
	}
	message := json.RawMessage(raw)
	target.Custom = &message
	return target
}

// refused wants an error of a kind, with exactly this sentence.
func refused(t *testing.T, c *Client, src Source, kind error, sentence string) {
	t.Helper()
	before := generation(t, c)
	v, err := c.Refresh(ctx, src)
	if err == nil {
		t.Fatalf("accepted: %v", v.Releases())
	}
	if diff := cmp.Diff(sentence, err.Error()); diff != "" {
		t.Errorf("the sentence (-want +got):\n%s", diff)
	}
	for _, k := range []error{ErrStale, ErrRollback, ErrUntrusted} {
		if want := k == kind || k == ErrUntrusted && kind == ErrRollback; errors.Is(err, k) != want {
			t.Errorf("errors.Is(%q, %q) is %v", err, k, !want)
		}
	}
	if after := generation(t, c); before != after {
		t.Errorf("something was accepted: %s, and before %s", after, before)
	}
}
