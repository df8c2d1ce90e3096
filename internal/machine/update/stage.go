package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ashlar-os/ashlar/internal/image/pack"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/machine/boot"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// Stage makes the planned deployment the next to boot. The store's lock must
// have been held since before the plan was made.
func (m *Machine) Stage(ctx context.Context, plan *StagePlan, p progress.Reporter) error {
	for _, step := range []func(context.Context, *StagePlan, progress.Reporter) error{
		m.storeObjects, m.describe, m.commit,
	} {
		if err := step(ctx, plan, p); err != nil {
			return fmt.Errorf("cannot stage %s: %w", plan.ID, err)
		}
	}
	return nil
}

// storeObjects fetches what is missing into the store, the image with it.
func (m *Machine) storeObjects(ctx context.Context, plan *StagePlan, p progress.Reporter) error {
	batch, err := m.Store.NewBatch()
	if err != nil {
		return err
	}
	defer batch.Abort()
	if err := fetchObjects(ctx, batch, plan, p); err != nil {
		return err
	}
	if !m.Store.HasImage(plan.Image) {
		f, err := os.Open(plan.erofs)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := batch.PutImage(plan.Image, plan.rel.Document.Root().Size, f); err != nil {
			return err
		}
	}
	p.Stage("sealing", 0, progress.Items)
	if err := batch.Commit(ctx); err != nil {
		return err
	}
	return os.Remove(plan.erofs)
}

func fetchObjects(ctx context.Context, batch *store.Batch, plan *StagePlan, p progress.Reporter) error {
	ranges := make([]registry.Range, len(plan.ranges))
	for i, r := range plan.ranges {
		ranges[i] = registry.Range{Offset: r.Offset, Length: r.Length}
	}
	p.Stage("fetching objects", plan.Transfer, progress.Bytes)
	return plan.rel.Repository().FetchRanges(ctx, plan.rel.Pack, ranges, 0, func(i int, r io.Reader) error {
		return pack.Extract(progress.Reader(r, p), plan.ranges[i], func(object tree.Object, r io.Reader) error {
			return batch.PutObject(object.Digest, int64(object.Size), r)
		})
	})
}

// describe writes the deployment directory. One that is there already keeps
// what it knows of itself: it was staged before, and perhaps it has run.
func (m *Machine) describe(_ context.Context, plan *StagePlan, _ progress.Reporter) error {
	dep, err := m.Store.Deployment(plan.Image)
	if err != nil {
		dep = &store.Deployment{Schema: store.Schema, Image: plan.Image, EtcFrom: plan.EtcFrom}
	}
	if dep.GoodBootsSeq == 0 {
		dep.EtcFrom = plan.EtcFrom
	}
	dep.Name, dep.Version, dep.Release = plan.Name, plan.Version, plan.Release
	dep.Origin, dep.Created = plan.Origin, plan.created
	return m.Store.WriteDeployment(dep)
}

// commit puts the boot file on the ESP. Where its version does not make it the
// first in the loader's order, the others are retired, as for a rollback.
func (m *Machine) commit(ctx context.Context, plan *StagePlan, p progress.Reporter) error {
	p.Stage("writing the boot file", plan.rel.Document.UKI.Size, progress.Bytes)
	r, err := plan.rel.OpenUKI(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = m.ESP.Commit(plan.Version, plan.Image, progress.Reader(r, p), plan.rel.Document.UKI.Size)
	if err != nil && !errors.Is(err, esp.ErrExists) {
		return err
	}
	entries, err := m.ESP.Entries()
	if err != nil {
		return err
	}
	order, err := boot.PlanRollback(entries, plan.Image)
	if err != nil {
		return err
	}
	return order.Apply(m.ESP)
}
