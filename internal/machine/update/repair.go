package update

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// Repair is what is wrong with one deployment and can be fetched again.
//
// Which release a deployment is of was decided when it was staged, and is kept as
// the digest of the release document. The disk may have been written to since, so
// that document has to be one that was signed; everything else is named by a
// digest in there, and checked against it as in staging. So whoever answers can
// only give what is right, or nothing.
//
// A sealed file cannot be written to. What is fetched is a new file, renamed over
// the old one when it is whole and on the disk; who has the old one open, such as
// the running system, keeps it until the next boot.
type Repair struct {
	ID           string          `json:"id"`    // of the deployment
	Image        verity.Digest   `json:"image"` // its image
	DamagedImage bool            `json:"damaged_image"`
	Objects      []verity.Digest `json:"objects"`
	BootFile     string          `json:"boot_file"` // its name as it will be; empty when nothing is wrong with it

	dep   store.Deployment
	entry esp.Entry
}

// PlanRepair sorts damage that was found by the deployment that it will be
// fetched for, of those with these images, and looks for boot files that are
// missing or are not those of their releases.
func (m *Machine) PlanRepair(s *State, images []verity.Digest, damaged []store.Damage) ([]Repair, error) {
	var plan []Repair
	taken := make(map[verity.Digest]bool)
	for i := range s.Deployments {
		d := &s.Deployments[i]
		if d.Remembered() || !slices.Contains(images, d.Image) {
			continue
		}
		r := Repair{ID: d.ID(), Image: d.Image, Objects: []verity.Digest{}, dep: d.Deployment}
		for _, damage := range damaged {
			switch {
			case damage.Kind == "image":
				r.DamagedImage = r.DamagedImage || damage.Digest == d.Image
			case !taken[damage.Digest] && slices.ContainsFunc(damage.UsedBy, func(u store.Use) bool { return u.Image == d.Image }):
				taken[damage.Digest] = true
				r.Objects = append(r.Objects, damage.Digest)
			}
		}
		if err := m.CheckBootFile(d); err != nil {
			if r.entry, err = s.restored(d); err != nil {
				return nil, fmt.Errorf("cannot repair %s: %w", d.ID(), err)
			}
			r.BootFile = r.entry.File
		}
		if r.DamagedImage || len(r.Objects) > 0 || r.BootFile != "" {
			plan = append(plan, r)
		}
	}
	return plan, nil
}

// restored is the name that the boot file of d gets: the one that it has, or,
// where it has none any more, one that leaves the choice of what boots as it is, but
// for what runs, which comes first again.
func (s *State) restored(d *Deployment) (esp.Entry, error) {
	name, err := esp.EntryName(d.Version, d.Image)
	if err != nil {
		return esp.Entry{}, err
	}
	entries := slices.Clone(s.Entries)
	for _, e := range entries {
		if e.Name == name {
			return e, nil
		}
	}
	left := esp.NoCounter
	if d.GoodBootsSeq == 0 {
		left = esp.Tries // it has not proved itself yet
	}
	e := esp.Entry{Name: name, Version: d.Version, Image: d.Image, SortKey: d.Name, SortVersion: d.Version}.WithCounter(left, 0)
	if d.Is(Running) {
		return e, nil
	}
	if first, ok := esp.Next(append(entries, e)); ok && first.File == e.File && s.Next != nil {
		e = e.WithCounter(0, 0)
	}
	return e, nil
}

// Origin is where the deployment's release is fetched from.
func (r *Repair) Origin() store.Origin { return r.dep.Origin }

// Repair fetches what the plan names and puts it in place. The store's lock must
// have been held since before the damage was looked for.
func (m *Machine) Repair(ctx context.Context, repo *registry.Repository, r *Repair, p progress.Reporter) error {
	if err := m.repair(ctx, repo, r, p); err != nil {
		return fmt.Errorf("cannot repair %s: %w", r.ID, err)
	}
	return nil
}

func (m *Machine) repair(ctx context.Context, repo *registry.Repository, r *Repair, p progress.Reporter) error {
	rel, err := m.readSigned(ctx, repo, r.Image)
	if err != nil {
		return err
	}
	plan := &StagePlan{
		ID: r.ID, Version: r.dep.Version, Image: r.Image, src: FromRegistry(rel),
		erofs: filepath.Join(m.Store.Dir, "tmp", "image-"+r.Image.Short()),
	}
	defer plan.Discard()
	if r.BootFile == "" {
		plan.here = &r.entry // none is needed, nor room for it
	}
	if r.DamagedImage {
		if err := m.repairImage(ctx, plan, p); err != nil {
			return err
		}
	}
	if len(r.Objects) > 0 {
		if err := m.repairObjects(ctx, plan, r.Objects, p); err != nil {
			return err
		}
	}
	if r.BootFile == "" {
		return nil
	}
	return m.repairBootFile(ctx, plan, r.entry, p)
}

func (m *Machine) repairImage(ctx context.Context, plan *StagePlan, p progress.Reporter) error {
	size := plan.doc().Root().Size
	if err := m.checkRoom(plan, []int64{size, size}); err != nil {
		return err
	}
	p.Stage("fetching the image", size, progress.Bytes)
	if _, err := fetchImage(ctx, plan.src, plan.erofs, size, p); err != nil {
		return err
	}
	return m.storeImage(ctx, plan)
}

// repairObjects fetches objects of an image that is there and whole.
func (m *Machine) repairObjects(ctx context.Context, plan *StagePlan, damaged []verity.Digest, p progress.Reporter) error {
	image, err := m.Store.OpenImage(plan.Image)
	if err != nil {
		return err
	}
	defer image.Close()
	objects, err := composefs.Objects(image, plan.doc().Root().Size)
	if err != nil {
		return fmt.Errorf("reading the image: %w", err)
	}
	var sizes []int64
	for _, o := range objects {
		if slices.Contains(damaged, o.Digest) {
			sizes = append(sizes, int64(o.Size))
		}
	}
	if err := m.checkRoom(plan, sizes); err != nil {
		return err
	}
	if err := plan.take(ctx, objects, func(d verity.Digest) bool { return slices.Contains(damaged, d) }); err != nil {
		return err
	}
	return m.fetchAll(ctx, plan, p)
}

func (m *Machine) repairBootFile(ctx context.Context, plan *StagePlan, e esp.Entry, p progress.Reporter) error {
	if err := m.admit(ctx, plan, p); err != nil {
		return err
	}
	if err := m.Store.WriteDocument(plan.Image, plan.doc().Bytes); err != nil {
		return err
	}
	want := plan.doc().UKI
	if sum, err := sumFile(m.ESP.Path(e)); err == nil && sum == want.SHA256 {
		return nil // it was the document that was missing here
	}
	p.Stage("fetching the boot file", want.Size, progress.Bytes)
	f, err := m.fetchBootFile(ctx, plan, p)
	if err != nil {
		return err
	}
	defer func() { _ = errors.Join(f.Close(), os.Remove(f.Name())) }() // the next run clears it away
	p.Stage("writing the boot file", want.Size, progress.Bytes)
	return m.ESP.Restore(e, progress.Reader(f, p), want.Size)
}
