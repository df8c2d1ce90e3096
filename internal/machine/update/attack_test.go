package update

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// Attacks on the registry and on the wire, each with what a person is told. In
// the sentences H is the repository and D a digest.

// refused checks and, if that works, stages; one of the two must fail, with this
// verdict and exactly this sentence, and nothing may have changed.
func (w *world) refused(verdict Verdict, sentence string) {
	w.t.Helper()
	w.refusedBy(w.machine(), verdict, regexp.QuoteMeta(sentence))
}

// refusedLike is refused for a sentence with numbers that are no part of the format.
func (w *world) refusedLike(verdict Verdict, pattern string) {
	w.t.Helper()
	w.refusedBy(w.machine(), verdict, pattern)
}

func (w *world) refusedBy(m *Machine, verdict Verdict, pattern string) {
	w.t.Helper()
	before := w.c.WouldBoot()
	w.must(m.Prepare())
	ctx := context.Background()
	f, err := m.Check(ctx, w.site.Open(), w.wanted())
	if err == nil {
		var plan *StagePlan
		if plan, err = m.PlanStage(ctx, f, progress.None); err == nil {
			err = m.Stage(ctx, plan, progress.None)
		}
	}
	if err == nil {
		w.t.Errorf("nothing was refused, want %q", pattern)
		return
	}
	if got := w.anonymous(err); !regexp.MustCompile("^" + pattern + "$").MatchString(got) {
		w.t.Errorf("a person is told\n%s, want\n%s", got, pattern)
	}
	if got := VerdictOn(err); got != verdict {
		w.t.Errorf("the verdict is %q, want %q: %v", got, verdict, err)
	}
	if d := w.c.WouldBoot(); d != before {
		w.t.Errorf("%s boots next", d.Short())
	}
	w.must(w.c.Whole(before))
	if left := w.c.Leftovers(); len(left) > 0 {
		w.t.Errorf("it leaves %q", left)
	}
}

var anyDigest = regexp.MustCompile(`(sha256:)?[0-9a-f]{64}`)

// anonymous is an error without what differs from run to run.
func (w *world) anonymous(err error) string {
	return anyDigest.ReplaceAllString(strings.ReplaceAll(err.Error(), w.site.Repository, "H"), "D")
}

// takes stages what the channel names, and wants it to be r.
func (w *world) takes(r *updatetest.Release) {
	w.t.Helper()
	w.stage()
	w.boots(r)
}

// TestSwappedImage is what was done to Linux Mint: the image is replaced in the
// registry, and every digest and tag with it. Machines look for what was signed.
func TestSwappedImage(t *testing.T) {
	w, _ := newWorld(t)
	v2 := w.publish("2.0.0")
	evil := w.site.Publish(updatetest.Spec{Name: "server", Version: "2.0.0", Content: "backdoor", Unsigned: true})
	if evil.Image() == v2.Image() {
		t.Fatal("the images are the same")
	}
	rel, err := w.site.Open().ReadRelease(context.Background(), "stable")
	w.must(err)
	if rel.Document.Root().Digest != evil.Image() {
		t.Fatal("the registry does not show the swapped image")
	}
	w.takes(v2)

	// The genuine one is taken away as well.
	w, _ = newWorld(t)
	w.publish("2.0.0")
	signed := w.artifact("2.0.0")
	w.site.Publish(updatetest.Spec{Name: "server", Version: "2.0.0", Content: "backdoor", Unsigned: true})
	w.must(os.Remove(w.blob(signed.Manifest.Digest)))
	w.refused("", `cannot check H for updates: reading release artifact "D" from H: not found: the server answers "404 Not Found" to GET /v2/acme/server/manifests/D: "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"there is no such thing here\"}]}"`)
}

// TestOthersKeys: the attacker signs the swapped image too, with keys of theirs.
func TestOthersKeys(t *testing.T) {
	w, _ := newWorld(t)
	theirs := updatetest.NewSiteOf(t, updatetest.Stranger())
	theirs.Publish(updatetest.Spec{Name: "server", Version: "2.0.0", Content: "backdoor"})
	w.site.Repository = theirs.Repository
	w.refused(Untrusted, `cannot trust H: the timestamp of this repository is not signed by the key that must`)
	// A root that claims to follow the one in the image.
	files := theirs.Metadata()
	files["2.root.json"] = bytes.Replace(files["1.root.json"], []byte(`"version":1`), []byte(`"version":2`), 1)
	theirs.Forge(files)
	w.refused(Untrusted, `cannot trust H: root 2 of this repository is signed by 0 of the 1 holders that root 1 names, and 1 must`)
}

// TestUnsigned: a repository without signatures is refused, always.
func TestUnsigned(t *testing.T) {
	w, _ := newWorld(t)
	other := updatetest.NewSite(t)
	other.Publish(updatetest.Spec{Name: "server", Version: "2.0.0", Unsigned: true})
	w.site.Repository = other.Repository
	w.refused(Untrusted, `cannot trust H: H is not signed, and nothing that is not signed is taken`)
}

// TestNoKeys: an image that knows no keys believes nobody.
func TestNoKeys(t *testing.T) {
	w, _ := newWorld(t)
	w.publish("2.0.0")
	m := w.machine()
	m.Root = nil
	w.refusedBy(m, "", `cannot check H for updates: server-1.0.0 takes no updates: its image has no "/usr/lib/ashlar/trust/root.json", so nobody's signature means anything to it`)
}

// TestSwappedDocument: other bytes for the release document.
func TestSwappedDocument(t *testing.T) {
	w, _ := newWorld(t)
	w.publish("2.0.0")
	signed := w.artifact("2.0.0")
	document := digest.Digest(signed.DocumentDigest)
	w.replace(document, func(b []byte) []byte { return bytes.Replace(b, []byte(`"2.0.0"`), []byte(`"2.0.1"`), 1) })
	w.refused(Untrusted, `cannot trust H: reading release artifact "D" from H: fetching D from H: content of D is damaged: its digest is D`)

	// A channel that names what the targets key never signed.
	w, _ = newWorld(t)
	w.publish("2.0.0")
	files := w.site.Metadata()
	for name := range files {
		if strings.HasSuffix(name, ".channels.json") {
			files[name] = bytes.ReplaceAll(files[name], []byte("2.0.0"), []byte("9.0.0"))
		}
	}
	w.site.Forge(files)
	w.refused(Untrusted, `cannot trust H: the channels of this repository are not those that its snapshot names: parts of different states were put together`)
}

// TestRollbackAttack: what was signed before is shown as the newest.
func TestRollbackAttack(t *testing.T) {
	w, _ := newWorld(t)
	w.publish("2.0.0")
	yesterday := w.site.Shown()
	v3 := w.publish("3.0.0")
	w.takes(v3)
	w.boot(nil)
	w.site.Show(yesterday)
	w.refused(Untrusted, `cannot trust H: this repository shows timestamp 2, and this machine accepted 3 before: somebody shows it the past`)
	// The floor survives everything but a new disk: also a rollback of the machine.
	w.rollback("")
	w.boot(nil)
	w.refused(Untrusted, `cannot trust H: this repository shows timestamp 2, and this machine accepted 3 before: somebody shows it the past`)
	// The publisher may go back, and says so with a new signature. It is told, not taken.
	w, _ = newWorld(t)
	v2 := w.publish("2.0.0")
	w.takes(v2)
	w.boot(nil)
	w.site.Point("stable", "1.0.0")
	if f := w.check(); f.Verdict != TooOld || f.Reason != "the channel holds 1.0.0, older than 2.0.0 that runs; ashlar update --to 1.0.0 takes it all the same" {
		t.Errorf("a channel that went back: %q %q", f.Verdict, f.Reason)
	}
	w.update()
	w.boots(v2)
}

// TestFreeze: yesterday's metadata, for ever. The clock of the machine tells.
func TestFreeze(t *testing.T) {
	w, _ := newWorld(t)
	v2 := w.publish("2.0.0")
	w.check()
	m := w.machine()
	later := time.Now().Add(8 * 24 * time.Hour)
	m.Now = func() time.Time { return later }
	expired := time.Now().Add(7 * 24 * time.Hour)
	w.refusedBy(m, Stale, fmt.Sprintf("cannot update from H: the timestamp of this repository expired on %s and this machine's clock says %s: nothing newer was published, or somebody holds it back",
		expired.UTC().Format(time.DateOnly), later.UTC().Format(time.DateOnly)))
	// A clock that forgot everything does not stop updates.
	m = w.machine()
	m.Now = func() time.Time { return time.Unix(0, 0) }
	f, err := m.Check(context.Background(), w.site.Open(), w.wanted())
	w.must(err)
	if f.ID != v2.ID || f.Verdict != Available {
		t.Errorf("with the clock of 1970: %s is %q", f.ID, f.Verdict)
	}
}

// TestMixedStates: parts of two states that were both signed.
func TestMixedStates(t *testing.T) {
	w, _ := newWorld(t)
	w.publish("2.0.0")
	old := w.site.Metadata()
	w.publish("3.0.0")
	files := w.site.Metadata()
	forged := maps.Clone(files)
	forged["3.targets.json"] = old["2.targets.json"]
	w.site.Forge(forged)
	w.refused(Untrusted, `cannot trust H: the targets of this repository are not those that its snapshot names: parts of different states were put together`)
	forged = maps.Clone(files)
	forged["3.snapshot.json"] = old["2.snapshot.json"]
	w.site.Forge(forged)
	w.refused(Untrusted, `cannot trust H: the snapshot of this repository is not the one that its timestamp names: parts of different states were put together`)
}

// TestOtherImage: releases that are genuine, by the same publisher, of another
// image or for another architecture.
func TestOtherImage(t *testing.T) {
	w, _ := newWorld(t)
	desktop := updatetest.NewSite(t)
	desktop.Publish(updatetest.Spec{Name: "desktop", Version: "2.0.0"})
	w.site.Repository = desktop.Repository
	w.refused(Untrusted, fmt.Sprintf(`cannot trust H: this repository publishes desktop (%s), not server (%[1]s)`, runtime.GOARCH))

	alien := "arm64"
	if runtime.GOARCH == alien {
		alien = "amd64"
	}
	other := updatetest.NewSite(t)
	other.Publish(updatetest.Spec{Name: "server", Version: "2.0.0", Change: func(d *release.Document) { d.Architecture = alien }})
	w.site.Repository = other.Repository
	w.refused(Untrusted, fmt.Sprintf(`cannot trust H: this repository publishes server (%s), not server (%s)`, alien, runtime.GOARCH))
}

// artifact is a release as the registry shows it under a tag.
func (w *world) artifact(tag string) *registry.Release {
	w.t.Helper()
	rel, err := w.site.Layout().ReadRelease(context.Background(), tag)
	w.must(err)
	return rel
}

// blob is the path of a blob or manifest in the site's directory.
func (w *world) blob(d digest.Digest) string {
	return filepath.Join(w.site.Dir, "blobs/sha256", d.Encoded())
}

// replace answers requests for a blob with other bytes, ranges of it too.
func (w *world) replace(d digest.Digest, change func([]byte) []byte) {
	w.t.Helper()
	b, err := os.ReadFile(w.blob(d))
	w.must(err)
	b = change(bytes.Clone(b))
	w.site.Instead = func(rw http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, d.String()) {
			return false
		}
		http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(b))
		return true
	}
}
