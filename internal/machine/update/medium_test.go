package update

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// mediumOf writes server-1.0.0 to a medium, and gives a machine with an empty disk.
func mediumOf(t *testing.T) (*updatetest.Site, *updatetest.Release, Medium, *Machine, *updatetest.Computer) {
	t.Helper()
	site := updatetest.NewSite(t)
	rel := site.Publish(updatetest.Spec{Name: "server", Version: "1.0.0", Large: 70_000})
	c := updatetest.NewComputer(t)
	m := machineOf(c)
	m.Root = updatetest.Acme().Root()
	return site, rel, Medium(site.WriteMedium(rel)), m, c
}

func stageMedium(m *Machine, md Medium) error {
	f, err := m.CheckMedium(context.Background(), md, store.Origin{Repository: "registry.example/acme/server", Channel: "stable"})
	if err != nil {
		return err
	}
	plan, err := m.PlanStage(context.Background(), f, progress.None)
	if err != nil {
		return err
	}
	return m.Stage(context.Background(), plan, progress.None)
}

// A medium makes the deployment that an update would have made, and the machine
// knows from then on who vouches for it.
func TestFromMedium(t *testing.T) {
	site, rel, md, m, c := mediumOf(t)
	if err := stageMedium(m, md); err != nil {
		t.Fatal(err)
	}
	if got := c.WouldBoot(); got != rel.Image() {
		t.Errorf("%s would boot, want %s", got, rel.Image())
	}
	if err := c.Whole(rel.Image()); err != nil {
		t.Error(err)
	}
	c.PowerOn(nil)
	w := &world{t: t, site: site, c: c}
	state := w.look()
	vouches, _ := w.machine().Vouches(state)
	if v := vouches[state.With(Running)]; v.Belief != Verified {
		t.Errorf("the machine's word on what it was installed with: %+v", v)
	}
	// The next update comes from the repository, and is newer than the medium.
	v2 := w.publish("2.0.0")
	w.stage()
	w.boots(v2)
	// By then the medium is the past.
	if _, err := w.machine().CheckMedium(context.Background(), md, store.Origin{}); !errors.Is(err, trust.ErrRollback) {
		t.Errorf("a medium that is older than what was accepted: %v", err)
	}
}

// A disc is read from one end to the other: in the order of names, in which
// mkfs.erofs(1) lays files down.
func TestMediumIsReadInOrder(t *testing.T) {
	_, _, md, m, _ := mediumOf(t)
	f, err := m.CheckMedium(context.Background(), md, store.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := m.PlanStage(context.Background(), f, progress.None)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range plan.pieces.(*objectFiles).objects {
		names = append(names, store.ObjectName(o.Digest))
	}
	if len(names) < 2 || !slices.IsSorted(names) {
		t.Errorf("objects are read in the order %q", names)
	}
}

// Whatever on a medium is not what its release names is refused, and by name.
func TestMediumIsNotBelieved(t *testing.T) {
	flip := func(path string) {
		b, err := os.ReadFile(path)
		if err != nil {
			panic(err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(path, b, 0o644); err != nil {
			panic(err)
		}
	}
	stranger := updatetest.NewSiteOf(t, updatetest.Stranger())
	theirs := stranger.WriteMedium(stranger.Publish(updatetest.Spec{Name: "server", Version: "1.0.0"}))
	for _, c := range []struct {
		name, want string
		change     func(site *updatetest.Site, rel *updatetest.Release, md *Medium, m *Machine)
	}{
		{"a bit of an object", "has the digest", func(_ *updatetest.Site, rel *updatetest.Release, md *Medium, _ *Machine) {
			largest := slices.MaxFunc(slices.Collect(maps.Keys(rel.Objects)), func(a, b verity.Digest) int {
				return len(rel.Objects[a]) - len(rel.Objects[b])
			})
			flip(filepath.Join(md.Payload, "objects", store.ObjectName(largest)))
		}},
		{"an object is missing", "of the medium: open", func(_ *updatetest.Site, rel *updatetest.Release, md *Medium, _ *Machine) {
			for d := range rel.Objects {
				if err := os.Remove(filepath.Join(md.Payload, "objects", store.ObjectName(d))); err != nil {
					panic(err)
				}
			}
		}},
		{"a bit of the image", "the medium holds the image", func(_ *updatetest.Site, rel *updatetest.Release, md *Medium, _ *Machine) {
			flip(filepath.Join(md.Payload, "images", rel.Image().String()))
		}},
		{"a bit of the boot file", "the medium's boot file has the sha256", func(_ *updatetest.Site, _ *updatetest.Release, md *Medium, _ *Machine) {
			flip(filepath.Join(md.Payload, bootFileName))
		}},
		{"a longer boot file", "longer than the", func(_ *updatetest.Site, rel *updatetest.Release, md *Medium, _ *Machine) {
			if err := os.WriteFile(filepath.Join(md.Payload, bootFileName), append(bytes.Clone(rel.UKI), 0), 0o644); err != nil {
				panic(err)
			}
		}},
		{"a shorter boot file", "ends after", func(_ *updatetest.Site, rel *updatetest.Release, md *Medium, _ *Machine) {
			if err := os.WriteFile(filepath.Join(md.Payload, bootFileName), rel.UKI[1:], 0o644); err != nil {
				panic(err)
			}
		}},
		{"another document", "is signed in this repository", func(_ *updatetest.Site, _ *updatetest.Release, md *Medium, _ *Machine) {
			md.Document = bytes.Replace(md.Document, []byte(`"test"`), []byte(`"text"`), 1)
		}},
		{"no signatures", `has no "timestamp.json"`, func(_ *updatetest.Site, _ *updatetest.Release, md *Medium, _ *Machine) { md.Trust = nil }},
		{"another publisher", "cannot trust this medium", func(_ *updatetest.Site, _ *updatetest.Release, md *Medium, _ *Machine) { *md = Medium(theirs) }},
		{"an image without keys", "nobody's signature means anything", func(_ *updatetest.Site, _ *updatetest.Release, _ *Medium, m *Machine) { m.Root = nil }},
		{"signed years ago", "expired on", func(_ *updatetest.Site, _ *updatetest.Release, _ *Medium, m *Machine) {
			m.Now = func() time.Time { return time.Now().AddDate(1, 1, 0) }
		}},
		{"withdrawn", "was withdrawn by its publisher: it eats files", func(site *updatetest.Site, rel *updatetest.Release, md *Medium, _ *Machine) {
			site.Publish(updatetest.Spec{Name: "server", Version: "1.1.0"})
			site.Sign(func(e *trust.Editor) error { return e.Withdraw("1.0.0", "it eats files") })
			*md = Medium(site.WriteMedium(rel))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			site, rel, md, m, computer := mediumOf(t)
			c.change(site, rel, &md, m)
			if err := stageMedium(m, md); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
			if names := computer.BootFiles(); len(names) > 0 {
				t.Errorf("the ESP has %q", names)
			}
		})
	}
}

// Without a disk yet, a medium can be judged, and nothing is remembered.
func TestMediumBeforeThereIsADisk(t *testing.T) {
	_, rel, md, m, _ := mediumOf(t)
	f, err := (&Machine{Root: m.Root}).CheckMedium(context.Background(), md, store.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	later := &Machine{Root: m.Root, Now: func() time.Time { return time.Now().AddDate(0, 2, 0) }}
	if _, err := later.CheckMedium(context.Background(), md, store.Origin{}); err != nil {
		t.Errorf("when timestamp and snapshot have expired: %v", err)
	}
	if doc, ok := f.Document(); !ok || doc.Root().Digest != rel.Image() || f.Verdict != Available {
		t.Errorf("found %+v", f)
	}
	if list, err := os.ReadDir(m.Store.TrustPath()); err != nil || len(list) > 0 {
		t.Errorf("trust/ holds %v (%v)", list, err)
	}
}
