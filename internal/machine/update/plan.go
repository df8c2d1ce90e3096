package update

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/boot"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// StagePlan says what staging a release will do.
type StagePlan struct {
	ID       string        `json:"id"`
	Name     string        `json:"name"`
	Version  string        `json:"version"`
	Release  string        `json:"release"` // digest of the release document
	Image    verity.Digest `json:"image"`
	Origin   store.Origin  `json:"origin"`
	EtcFrom  string        `json:"etc_from"` // deployment whose /etc is merged at first boot
	Objects  int           `json:"objects"`  // in the image
	Missing  int           `json:"missing"`  // of them, to be fetched
	Bytes    int64         `json:"bytes"`    // their content
	Transfer int64         `json:"transfer"` // bytes to read for them, as packed
	Requests int           `json:"requests"` // to read them with
	Replaces []string      `json:"replaces"` // what was staged before, and goes
	Renames  []boot.Rename `json:"renames"`  // of boot files, so that the release comes first
	Need     Room          `json:"need"`
	Free     Room          `json:"free"`

	src     Source
	here    *esp.Entry // the boot file, where it is on the ESP already
	erofs   string     // the image, in the store's tmp/
	pieces  Pieces     // what is missing; nil: nothing
	created string
	why     string // for the history
}

// PlanStage fetches the release's image, and where its objects are, and works out what staging
// would do. There is no way to a plan but through a finding, which is of a release
// that its publisher signed. The image is kept in the store's tmp/ for Stage,
// until Discard. The store's lock must be held.
func (m *Machine) PlanStage(ctx context.Context, f *Finding, p progress.Reporter) (*StagePlan, error) {
	if f.Verdict == Withdrawn {
		return nil, fmt.Errorf("cannot stage %s: %s", f.ID, f.Reason)
	}
	doc, err := f.document(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot stage %s: %w", f.ID, err)
	}
	root := doc.Root()
	plan := &StagePlan{
		ID: doc.ID, Name: doc.Name, Version: doc.Version, Release: f.src.Document().Digest,
		Image: root.Digest, Origin: f.Origin, src: f.src, created: doc.Created, why: f.why,
		erofs: filepath.Join(m.Store.Dir, "tmp", "image-"+root.Digest.Short()),
	}
	if err := m.plan(ctx, plan, p); err != nil {
		plan.Discard()
		return nil, fmt.Errorf("cannot stage %s: %w", doc.ID, err)
	}
	return plan, nil
}

// Discard removes what planning fetched. After Stage it does nothing.
func (p *StagePlan) Discard() {
	os.Remove(p.erofs) // gone already, or the next run clears it away
}

// doc is the release document.
func (p *StagePlan) doc() Document { return p.src.Document() }

func (m *Machine) plan(ctx context.Context, plan *StagePlan, p progress.Reporter) error {
	switch doc := plan.doc(); {
	case doc.Architecture != m.arch():
		return fmt.Errorf("it is for %q, this machine takes %q", doc.Architecture, m.arch())
	case plan.Image == m.Running:
		return fmt.Errorf("its image is running")
	case !m.Running.IsZero():
		plan.EtcFrom = m.Running.String()
	}
	state, err := m.Look()
	if err != nil {
		return err
	}
	if err := plan.order(state); err != nil {
		return err
	}
	// What the document says is enough to refuse early; the objects decide.
	root := plan.doc().Root()
	if err := m.checkRoom(plan, []int64{root.Size, root.Size}); err != nil {
		return err
	}
	p.Stage("fetching the image", root.Size, progress.Bytes)
	objects, err := fetchImage(ctx, plan.src, plan.erofs, root.Size, p)
	if err != nil {
		return err
	}
	return m.planObjects(ctx, plan, objects, root.Size)
}

// order plans how the release comes first in the loader's order, and refuses
// one that cannot, before anything is fetched for it.
func (p *StagePlan) order(s *State) error {
	entries := slices.Clone(s.Entries)
	p.Replaces = []string{}
	for _, d := range s.superseded(p.Image) {
		p.Replaces = append(p.Replaces, d.ID())
		entries = slices.DeleteFunc(entries, func(e esp.Entry) bool { return e.File == d.Entry.File })
	}
	if e, ok := esp.Find(entries, p.Image); ok {
		p.here = &e
	} else {
		name, err := esp.EntryName(p.Version, p.Image)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Name == name && e.Ignored == "" {
				return fmt.Errorf("the boot file %q has its name, and is not its own; remove it", e.File)
			}
		}
		entries = append(entries, esp.Entry{
			Name: name, Version: p.Version, Image: p.Image, SortKey: p.Name, SortVersion: p.Version,
		}.WithCounter(esp.Tries, 0))
	}
	order, err := boot.PlanRollback(entries, p.Image)
	if err != nil {
		return err
	}
	p.Renames = order.Renames
	return nil
}

// fetchImage writes the image to path and returns the objects it needs.
func fetchImage(ctx context.Context, src Source, path string, size int64, p progress.Reporter) ([]tree.Object, error) {
	r, err := src.OpenImage(ctx)
	if err != nil {
		return nil, fmt.Errorf("fetching the image: %w", err)
	}
	defer r.Close()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := io.Copy(f, progress.Reader(r, p)); err != nil {
		return nil, fmt.Errorf("fetching the image: %w", err)
	}
	objects, err := composefs.Objects(f, size)
	if err != nil {
		return nil, fmt.Errorf("reading the image: %w", err)
	}
	return objects, f.Close()
}

// planObjects finds what is missing and checks that there is room for it.
func (m *Machine) planObjects(ctx context.Context, plan *StagePlan, objects []tree.Object, imageSize int64) error {
	sizes := []int64{imageSize}
	missing := make(map[verity.Digest]bool)
	for _, object := range objects {
		if !missing[object.Digest] && !m.Store.HasObject(object.Digest) {
			missing[object.Digest] = true
			plan.Bytes += int64(object.Size)
			sizes = append(sizes, int64(object.Size))
		}
	}
	plan.Objects, plan.Missing = len(objects), len(missing)
	if len(missing) > 0 {
		if err := plan.take(ctx, objects, func(d verity.Digest) bool { return missing[d] }); err != nil {
			return err
		}
	}
	return m.checkRoom(plan, sizes)
}

// take plans to fetch the objects that are wanted.
func (p *StagePlan) take(ctx context.Context, all []tree.Object, wanted func(verity.Digest) bool) (err error) {
	if p.pieces, err = p.src.Objects(ctx, all, wanted); err != nil {
		return err
	}
	p.Requests = p.pieces.Len()
	for i := range p.Requests {
		p.Transfer += p.pieces.Length(i)
	}
	return nil
}
