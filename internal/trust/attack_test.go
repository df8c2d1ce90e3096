package trust

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// generation is what a client has accepted, as far as it matters here.
func generation(t *testing.T, c *Client) string {
	t.Helper()
	name, err := os.Readlink(filepath.Join(c.Dir, currentName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return name
}

// An older state that was signed once, served as the newest.
func TestRollback(t *testing.T) {
	p := newPublisher(t)
	old := p.release("1.0.0")
	m := p.machine()
	mustRefresh(t, m, p.release("1.1.0"))
	refused(t, m, old, ErrRollback, "this repository shows timestamp 1, and this machine accepted 2 before: somebody shows it the past")
	mustRefresh(t, p.machine(), old) // a machine that knows nothing yet cannot notice
}

// The thief of the timestamp key shows an old snapshot as the newest.
func TestRollbackBehindANewTimestamp(t *testing.T) {
	p := newPublisher(t)
	old := p.release("1.0.0")
	m := p.machine()
	files := p.release("1.1.0")
	mustRefresh(t, m, files)
	forged := p.steals(RoleTimestamp).forge(old, func(f *forgery) { f.stamp.Signed.Version = 9 })
	addStolenSnapshot(forged, old)
	stamp, err := decodeTimestamp(forged["timestamp.json"])
	if err != nil {
		t.Fatal(err)
	}
	addMeta(forged, stamp.Signed.Meta, RoleSnapshot, 1, old["1.snapshot.json"])
	stamp.ClearSignatures()
	if forged["timestamp.json"], err = signOnline(ctx, stamp, p.keys.root, RoleTimestamp, p.keys); err != nil {
		t.Fatal(err)
	}
	refused(t, m, forged, ErrRollback, "the timestamp of this repository names an older snapshot than this machine accepted before: somebody shows it the past")
}

func addStolenSnapshot(files, old Files) {
	delete(files, "2.snapshot.json")
	files["1.snapshot.json"] = old["1.snapshot.json"]
}

// The thief of timestamp and snapshot keys, a CI's, shows old targets as the newest.
func TestRollbackBehindANewSnapshot(t *testing.T) {
	p := newPublisher(t)
	old := p.release("1.0.0")
	m := p.machine()
	mustRefresh(t, m, p.release("1.1.0"))
	forged := p.steals(RoleTimestamp, RoleSnapshot).forge(old, func(f *forgery) {
		f.stamp.Signed.Version, f.snapshot.Signed.Version = 9, 9
	})
	refused(t, m, forged, ErrRollback, "the snapshot of this repository names older targets or channels than this machine accepted before: somebody shows it the past")
}

// Yesterday's metadata for ever: to a machine that knows it and to one that does not.
func TestFreeze(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	m := p.machine()
	mustRefresh(t, m, files)
	for _, m := range []*Client{m, p.machine()} {
		m.Now = at(today.Add(23 * day))
		refused(t, m, files, ErrStale, "the timestamp of this repository expired on 2026-12-08 and this machine's clock says 2026-12-24: "+
			"nothing newer was published, or somebody holds it back")
	}
	v, err := m.Accepted() // what is known stays known
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Stale(); !errors.Is(err, ErrStale) {
		t.Errorf("what was accepted is not stale: %v", err)
	}
}

func TestStaleNamesTheRole(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	for _, c := range []struct {
		role string
		late time.Duration
		edit func(*forgery)
		want string
	}{
		{"snapshot", 15 * day, func(f *forgery) {}, "the snapshot of this repository expired on 2026-12-15 and this machine's clock says 2026-12-16"},
		{"targets", 366 * day, func(f *forgery) {}, "the targets of this repository expired on 2027-12-01 and this machine's clock says 2027-12-02"},
		{"root", 731 * day, func(f *forgery) {}, "the root of this repository expired on 2028-11-30 and this machine's clock says 2028-12-01"},
	} {
		m := p.machine()
		m.Now = at(today.Add(c.late))
		th := p.steals(RoleTimestamp, RoleSnapshot)
		th.now, th.expires = today, 1000*day
		forged := th.forge(files, c.edit)
		if c.role == "snapshot" { // its own timestamp, and the snapshot as it was
			stamp, err := decodeTimestamp(forged["timestamp.json"])
			if err != nil {
				t.Fatal(err)
			}
			delete(forged, "2.snapshot.json")
			addMeta(forged, stamp.Signed.Meta, RoleSnapshot, 1, files["1.snapshot.json"])
			stamp.ClearSignatures()
			if forged["timestamp.json"], err = signOnline(ctx, stamp, p.keys.root, RoleTimestamp, p.keys); err != nil {
				t.Fatal(err)
			}
		}
		refused(t, m, forged, ErrStale, c.want+": nothing newer was published, or somebody holds it back")
	}
}

// Parts of two valid states, put together.
func TestMix(t *testing.T) {
	p := newPublisher(t)
	one := p.release("1.0.0")
	two := p.release("1.1.0")
	mix := maps.Clone(two)
	mix["2.snapshot.json"] = one["1.snapshot.json"]
	refused(t, p.machine(), mix, ErrUntrusted, "the snapshot of this repository is not the one that its timestamp names: parts of different states were put together")
	mix = maps.Clone(two)
	mix["2.targets.json"] = one["1.targets.json"]
	refused(t, p.machine(), mix, ErrUntrusted, "the targets of this repository are not those that its snapshot names: parts of different states were put together")
	mix = maps.Clone(two)
	mix["2.channels.json"] = one["1.channels.json"]
	refused(t, p.machine(), mix, ErrUntrusted, "the channels of this repository are not those that its snapshot names: parts of different states were put together")
	mix = maps.Clone(two)
	delete(mix, "2.targets.json")
	refused(t, p.machine(), mix, ErrUntrusted, `this repository has no "2.targets.json", which its snapshot names`)
}

// A targets key (and with it the CI's keys) is stolen; the holders replace them.
func TestStolenKeysAreRevoked(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	m := p.machine()
	mustRefresh(t, m, files)
	th := p.steals(RoleTargets, RoleSnapshot, RoleTimestamp)
	evil := func(f *forgery) {
		f.targets.Signed.Version++
		f.targets.Signed.Targets["releases/server/amd64/6.6.6"] = entry(t, document(t, server, "6.6.6"), customRelease{Artifact: artifact("6.6.6")})
	}
	if v, err := p.machine().Refresh(ctx, th.forge(files, evil)); err != nil || len(v.Releases()) != 2 {
		t.Fatalf("a thief of these keys can publish, until they are revoked: %v", err)
	}
	p.rotate(func(c *RootChange) error {
		return errors.Join(c.Replace(RoleTargets), c.Replace(RoleSnapshot), c.Replace(RoleTimestamp))
	})
	mustRefresh(t, m, p.publish(nil))
	forged := th.forge(files, evil)
	th.now = today.Add(day)
	refused(t, m, forged, ErrUntrusted, "the timestamp of this repository is not signed by the key that must")
	maps.Copy(forged, Files{"2.root.json": p.files["2.root.json"]}) // and with the new root beside it, to a new machine
	fresh := p.machine()
	if _, err := fresh.Refresh(ctx, forged); !errors.Is(err, ErrUntrusted) {
		t.Error(err)
	}
}

// Only the targets key is replaced: the thief's targets, under true snapshots.
func TestStolenTargetsKeyAlone(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	th := p.steals(RoleTargets)
	p.rotate(func(c *RootChange) error { return c.Replace(RoleTargets) })
	p.publish(nil)
	m := p.machine()
	mustRefresh(t, m, p.files)
	th.root, th.stolen = p.keys.root, stolenBoth(th.stolen, p.steals(RoleSnapshot, RoleTimestamp).stolen)
	old, err := decodeTargets(files["1.targets.json"])
	if err != nil {
		t.Fatal(err)
	}
	forged := th.forge(p.files, func(f *forgery) {
		f.targets.Signed.Version = 3
		f.targets.Signatures = old.Signatures
	})
	refused(t, m, forged, ErrUntrusted, "the targets of this repository are not signed by the key that must")
}

func stolenBoth(a, b Signers) Signers {
	x, y := a.(stolen), b.(stolen)
	return stolen{x.Keyring, append(x.ids, y.ids...)}
}

// Whoever has only the registry can change nothing.
func TestWithoutAKey(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	evil := p.steals().forge(files, func(f *forgery) { f.targets.Signed.Targets["releases/server/amd64/1.0.0"].Length++ })
	refused(t, p.machine(), evil, ErrUntrusted, "the timestamp of this repository is not signed by the key that must")
	evil = maps.Clone(files)
	delete(evil, "timestamp.json")
	refused(t, p.machine(), evil, ErrUntrusted, `this repository has no "timestamp.json"`)
	evil = maps.Clone(files)
	evil["timestamp.json"] = append([]byte(" "), files["timestamp.json"]...)
	m := p.machine()
	mustRefresh(t, m, files)
	refused(t, m, evil, ErrUntrusted, "this repository shows two different timestamps with the number 1")
}

// Metadata of 1 GB: it is refused after its limit, and not read to the end.
func TestMetadataOfAGigabyte(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	for name, want := range map[string]string{
		"timestamp.json":  `reading "timestamp.json" of the repository: "timestamp.json" is longer than 64 KiB, which no honest repository needs`,
		"1.snapshot.json": `reading "1.snapshot.json" of the repository: "1.snapshot.json" is longer than 64 KiB, which no honest repository needs`,
		"1.targets.json":  `reading "1.targets.json" of the repository: "1.targets.json" is longer than 5120 KiB, which no honest repository needs`,
		"2.root.json":     `reading "2.root.json" of the repository: "2.root.json" is longer than 512 KiB, which no honest repository needs`,
	} {
		dir := t.TempDir()
		for name, data := range files {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		huge, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(huge.Truncate(1<<30), huge.Close()); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		refused(t, p.machine(), Dir(dir), ErrUntrusted, want)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 64<<20 {
			t.Errorf("%s: %d MiB were allocated", name, got>>20)
		}
	}
	// A source that does not keep to its limit is not believed either.
	refused(t, p.machine(), careless{files, "timestamp.json"}, ErrUntrusted, `"timestamp.json" is longer than 64 KiB, which no honest repository needs`)
}

type careless struct {
	Files
	name string
}

func (c careless) File(ctx context.Context, name string, limit int64) ([]byte, error) {
	if name == c.name {
		return make([]byte, limit+1), nil
	}
	return c.Files.File(ctx, name, limit)
}

type failing struct {
	Files
	err error
}

func (f failing) File(context.Context, string, int64) ([]byte, error) { return nil, f.err }
