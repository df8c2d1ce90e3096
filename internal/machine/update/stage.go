package update

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/boot"
	"github.com/ashlar-os/ashlar/internal/machine/history"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// Stage makes the planned deployment the next to boot. The store's lock must
// have been held since before the plan was made.
func (m *Machine) Stage(ctx context.Context, plan *StagePlan, p progress.Reporter) error {
	defer plan.Discard()
	for _, step := range []func(context.Context, *StagePlan, progress.Reporter) error{
		m.admit, m.storeObjects, m.describe, m.commit,
	} {
		if err := step(ctx, plan, p); err != nil {
			return fmt.Errorf("cannot stage %s: %w", plan.ID, err)
		}
	}
	return nil
}

// defaultBatch is how much is fetched before it is made durable, in bytes: what
// a cut costs to fetch again, against the two times that a batch waits for the disk.
const defaultBatch = 64 << 20

// storeObjects fetches what is missing into the store, batch by batch, and the
// image once all of it is there. The image is written even where there is one:
// it was fetched anyway, and a damaged one, whose seal still measures right, is
// healed by it.
//
// One batch is made durable while the next is fetched: one waits for the disk, the
// other for the network and the processor.
func (m *Machine) storeObjects(ctx context.Context, plan *StagePlan, p progress.Reporter) error {
	if err := m.fetchAll(ctx, plan, p); err != nil {
		return err
	}
	p.Stage("sealing the image", 0, progress.Items)
	return m.storeImage(ctx, plan)
}

// fetchAll fetches the planned pieces.
func (m *Machine) fetchAll(ctx context.Context, plan *StagePlan, p progress.Reporter) error {
	p.Stage("fetching objects", plan.Transfer, progress.Bytes)
	commits, fetching := errgroup.WithContext(ctx)
	commits.SetLimit(1)
	for from := 0; plan.pieces != nil && from < plan.pieces.Len(); {
		to, size := from, int64(0)
		for to < plan.pieces.Len() && (to == from || size+plan.pieces.Length(to) <= m.batch()) {
			size += plan.pieces.Length(to)
			to++
		}
		batch, err := m.Store.NewBatch()
		if err == nil {
			err = plan.pieces.Fetch(fetching, from, to, p, func(object tree.Object, r io.Reader) error {
				return batch.PutObject(object.Digest, int64(object.Size), r)
			})
		}
		if err != nil {
			if batch != nil {
				batch.Abort()
			}
			if cause := commits.Wait(); cause != nil {
				return cause // it is what ended the fetching
			}
			return err
		}
		// What has arrived is kept also when the next batch is interrupted: the
		// disk is waited for once more, so that nothing is fetched twice.
		commits.Go(func() error { return batch.Commit(context.WithoutCancel(ctx)) })
		from = to
	}
	return commits.Wait()
}

// storeImage puts the image that was fetched into its place.
func (m *Machine) storeImage(ctx context.Context, plan *StagePlan) error {
	return m.inBatch(ctx, func(batch *store.Batch) error {
		f, err := os.Open(plan.erofs)
		if err != nil {
			return err
		}
		defer f.Close()
		return batch.PutImage(plan.Image, plan.doc().Root().Size, f)
	})
}

func (m *Machine) batch() int64 {
	if m.Batch > 0 {
		return m.Batch
	}
	return defaultBatch
}

// inBatch makes durable what put puts into a batch.
func (m *Machine) inBatch(ctx context.Context, put func(*store.Batch) error) error {
	batch, err := m.Store.NewBatch()
	if err != nil {
		return err
	}
	defer batch.Abort()
	if err := put(batch); err != nil {
		return err
	}
	return batch.Commit(ctx)
}

// describe writes the deployment directory. One that is there already keeps
// what it knows of itself.
//
// Its own /etc is among that: what was changed in a deployment while it ran is
// not taken from it by staging it again. Only one that failed, and never came
// up well, gets its first boot again, and with it /etc as this machine has it
// now. What makes a boot a first one is that there is no report of a merge.
func (m *Machine) describe(_ context.Context, plan *StagePlan, _ progress.Reporter) error {
	state, err := m.Look()
	if err != nil {
		return err
	}
	dep := &store.Deployment{Schema: store.Schema, Image: plan.Image}
	own := m.hasEtc(plan.Image)
	if d := state.Of(plan.Image); d != nil {
		*dep = d.Deployment
		if own && d.Is(Failed) && d.GoodBootsSeq == 0 {
			own = false
			if err := forget(m.Store.EtcReport(plan.Image)); err != nil {
				return err
			}
		}
	}
	if !own {
		dep.EtcFrom = plan.EtcFrom
	}
	dep.Name, dep.Version, dep.Release = plan.Name, plan.Version, plan.Release
	dep.Origin, dep.Created = plan.Origin, plan.created
	if err := m.Store.WriteDeployment(dep); err != nil {
		return err
	}
	return forget(m.failurePath(plan.Image))
}

// commit puts the boot file on the ESP. Where its version does not make it the
// first in the loader's order, the others are retired, as for a rollback.
//
// Cut after any step, the next boot is what it was before, or what runs, or the
// release.
func (m *Machine) commit(ctx context.Context, plan *StagePlan, p progress.Reporter) error {
	if err := m.putBootFile(ctx, plan, p); err != nil {
		return err
	}
	if err := m.supersede(plan); err != nil {
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
	if err := order.Apply(m.ESP); err != nil {
		return err
	}
	if err := forget(m.asidePath(plan.Image)); err != nil {
		return err
	}
	m.note(history.Staged, &Deployment{Deployment: store.Deployment{Image: plan.Image, Name: plan.Name, Version: plan.Version}},
		plan.why)
	return nil
}

// superseded lists what was staged before image, and never ran.
func (s *State) superseded(image verity.Digest) (list []*Deployment) {
	for i := range s.Deployments {
		d := &s.Deployments[i]
		if d.Entry != nil && d.Entry.Left > 0 && d.GoodBootsSeq == 0 && !d.Is(Running) && d.Image != image {
			list = append(list, d)
		}
	}
	return list
}

// supersede takes what was staged before out of the loader's sight: should this
// release fail, the machine goes back to what it knows, and not to what nobody
// wants any more. Clearing up removes the rest.
func (m *Machine) supersede(plan *StagePlan) error {
	state, err := m.Look()
	if err != nil {
		return err
	}
	for _, d := range state.superseded(plan.Image) {
		if d.Pinned {
			_, err = m.ESP.SetCounter(*d.Entry, 0, 0)
		} else {
			err = m.ESP.Remove(*d.Entry)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
