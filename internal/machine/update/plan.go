package update

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/pack"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// maxIndex limits what is read of a pack's index, in bytes.
const maxIndex = pack.MaxIndex

// storeReserve stays free in the store whatever is staged, in bytes: the
// running system's /var lives on the same file system.
const storeReserve = 64 << 20

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
	Requests int           `json:"requests"`
	Need     Room          `json:"need"`
	Free     Room          `json:"free"`

	rel     *registry.Release
	erofs   string // the image, in the store's tmp/
	ranges  []pack.Range
	created string
}

// Room is space on both file systems, in bytes.
type Room struct {
	Store int64 `json:"store"`
	ESP   int64 `json:"esp"`
}

// SpaceError says which file system is too small for a release.
type SpaceError struct {
	ID         string
	Where      string // "the store" or "the ESP"
	Need, Free int64  // bytes
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("cannot stage %s: %s has %d MB free, the release needs %d MB", e.ID, e.Where, e.Free/1e6, (e.Need+1e6-1)/1e6)
}

// Hint says what may help.
func (e *SpaceError) Hint() string {
	return "ashlar gc --dry-run shows what can go; ashlar status shows what is pinned"
}

// PlanStage fetches the release's image and index and works out what staging
// would do. The image is kept in the store's tmp/ for Stage. The store's lock
// must be held.
func (m *Machine) PlanStage(ctx context.Context, rel *registry.Release, origin store.Origin, p progress.Reporter) (*StagePlan, error) {
	doc := rel.Document
	root := doc.Root()
	plan := &StagePlan{
		ID: doc.ID, Name: doc.Name, Version: doc.Version, Release: rel.DocumentDigest,
		Image: root.Digest, Origin: origin, Objects: root.Objects, rel: rel, created: doc.Created,
	}
	state, err := m.Look()
	if err != nil {
		return nil, err
	}
	if running := state.With(Running); running != nil && running.Image != root.Digest {
		plan.EtcFrom = running.Image.String()
	}
	// What the document says is enough to refuse early; the objects decide.
	if err := m.checkRoom(plan, []int64{root.Size}); err != nil {
		return nil, err
	}
	plan.erofs = filepath.Join(m.Store.Dir, "tmp", "image-"+root.Digest.Short())
	p.Stage("fetching the image", root.Size, progress.Bytes)
	objects, err := fetchImage(ctx, rel, plan.erofs, root.Size, p)
	if err != nil {
		return nil, fmt.Errorf("cannot stage %s: %w", doc.ID, err)
	}
	index, err := readIndex(ctx, rel, objects)
	if err != nil {
		return nil, fmt.Errorf("cannot stage %s: %w", doc.ID, err)
	}
	if err := m.planObjects(plan, objects, index, root.Size); err != nil {
		return nil, err
	}
	return plan, nil
}

// fetchImage writes the image to path and returns the objects it needs.
func fetchImage(ctx context.Context, rel *registry.Release, path string, size int64, p progress.Reporter) ([]tree.Object, error) {
	r, err := rel.OpenEROFS(ctx)
	if err != nil {
		return nil, err
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

func readIndex(ctx context.Context, rel *registry.Release, objects []tree.Object) (*pack.Index, error) {
	r, err := rel.OpenPackIndex(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxIndex+1))
	if err != nil {
		return nil, fmt.Errorf("fetching the pack's index: %w", err)
	}
	return pack.DecodeIndex(data, objects, rel.Document.Pack.Size)
}

// planObjects finds what is missing and checks that there is room for it.
func (m *Machine) planObjects(plan *StagePlan, objects []tree.Object, index *pack.Index, imageSize int64) error {
	sizes := []int64{imageSize}
	missing := make(map[verity.Digest]bool)
	for _, object := range objects {
		if !m.Store.HasObject(object.Digest) {
			missing[object.Digest] = true
			plan.Bytes += int64(object.Size)
			sizes = append(sizes, int64(object.Size))
		}
	}
	plan.Missing = len(missing)
	if len(missing) > 0 {
		plan.ranges = index.Plan(func(d verity.Digest) bool { return missing[d] }, pack.PlanOptions{})
	}
	plan.Requests = len(plan.ranges)
	for _, r := range plan.ranges {
		plan.Transfer += r.Length
	}
	return m.checkRoom(plan, sizes)
}

// checkRoom compares what is needed with what is free, before the first write.
func (m *Machine) checkRoom(plan *StagePlan, sizes []int64) error {
	space, err := m.Store.Space()
	if err != nil {
		return err
	}
	onESP, err := m.ESP.Free()
	if err != nil {
		return err
	}
	plan.Need = Room{Store: space.Need(sizes...) + storeReserve, ESP: plan.rel.Document.UKI.Size + 2*onESP.Block}
	plan.Free = Room{Store: space.Free, ESP: onESP.Free}
	switch {
	case plan.Need.Store > plan.Free.Store:
		return &SpaceError{plan.ID, "the store", plan.Need.Store, plan.Free.Store}
	case space.Inodes >= 0 && space.Inodes < int64(len(sizes))+100:
		return fmt.Errorf("cannot stage %s: the store has %d inodes free, the release needs %d", plan.ID, space.Inodes, len(sizes)+100)
	case plan.Need.ESP > plan.Free.ESP:
		return &SpaceError{plan.ID, "the ESP", plan.Need.ESP, plan.Free.ESP}
	}
	return nil
}
