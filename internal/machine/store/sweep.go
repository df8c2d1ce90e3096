package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// SweepPlan is what a sweep would remove.
type SweepPlan struct {
	Images  []verity.Digest `json:"images"`  // sorted
	Objects []verity.Digest `json:"objects"` // sorted
	Bytes   int64           `json:"bytes"`   // of both, as the disk counts them
	Kept    int             `json:"kept"`    // objects that stay
}

// PlanSweep marks every object that the images in keep use and plans to remove
// all other objects and images. When one image to keep cannot be read, nothing
// is known about what it needs, so the answer is an error and no plan.
func (s *Store) PlanSweep(ctx context.Context, keep []verity.Digest) (*SweepPlan, error) {
	if len(keep) == 0 {
		return nil, errors.New("planning to sweep: no image is to be kept, which would empty the store")
	}
	live := make(map[verity.Digest]struct{})
	kept := make(map[verity.Digest]bool)
	for _, d := range keep {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if kept[d] {
			continue
		}
		kept[d] = true
		t, err := s.ReadImage(d)
		if err != nil {
			return nil, fmt.Errorf("planning to sweep: nothing can be removed while an image in use cannot be read: %w", err)
		}
		for _, o := range t.Objects() {
			live[o.Digest] = struct{}{}
		}
	}
	p := &SweepPlan{Images: []verity.Digest{}, Objects: []verity.Digest{}}
	v, err := s.Survey()
	if err != nil {
		return nil, fmt.Errorf("planning to sweep: %w", err)
	}
	for _, d := range v.Images {
		if !kept[d] {
			p.Images = append(p.Images, d)
			p.Bytes += diskUse(s.ImagePath(d))
		}
	}
	err = s.walkObjects(ctx, func(d verity.Digest) {
		if _, ok := live[d]; ok {
			p.Kept++
			return
		}
		p.Objects = append(p.Objects, d)
		p.Bytes += diskUse(s.ObjectPath(d))
	})
	if err != nil {
		return nil, fmt.Errorf("planning to sweep: %w", err)
	}
	return p, nil
}

// Sweep removes what the plan names. The lock must be held since before the
// plan was made. Images go first and durably: an image without its objects
// must never be found, objects without an image only take space.
func (s *Store) Sweep(ctx context.Context, p *SweepPlan) error {
	for _, d := range p.Images {
		if err := remove(s.ImagePath(d)); err != nil {
			return fmt.Errorf("sweeping: %w", err)
		}
	}
	if len(p.Images) > 0 {
		if err := syncDir(s.path(imagesDir)); err != nil {
			return fmt.Errorf("sweeping: %w", err)
		}
	}
	for _, d := range p.Objects {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := remove(s.ObjectPath(d)); err != nil {
			return fmt.Errorf("sweeping: %w", err)
		}
	}
	if err := s.removeEmptyShards(); err != nil {
		return fmt.Errorf("sweeping: %w", err)
	}
	return nil
}

// removeEmptyShards removes the directories that no object is in any more.
func (s *Store) removeEmptyShards() error {
	shards, err := os.ReadDir(s.path(objectsDir))
	if err != nil {
		return err
	}
	for _, shard := range shards {
		if !isShard(shard) {
			continue
		}
		err := unix.Rmdir(s.path(objectsDir, shard.Name()))
		if err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOENT) {
			return &os.PathError{Op: "rmdir", Path: s.path(objectsDir, shard.Name()), Err: err}
		}
	}
	return nil
}

// ReadImage reads the image d, after measuring it, as a tree.
func (s *Store) ReadImage(d verity.Digest) (*tree.Tree, error) {
	f, err := s.OpenImage(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading image %s: %w", d.Short(), err)
	}
	t, err := composefs.Read(f, st.Size())
	if err != nil {
		return nil, fmt.Errorf("reading image %s: %w", d.Short(), err)
	}
	return t, nil
}

// walkObjects calls fn for every file named like an object, in order.
func (s *Store) walkObjects(ctx context.Context, fn func(verity.Digest)) error {
	shards, err := os.ReadDir(s.path(objectsDir))
	if err != nil {
		return err
	}
	for _, shard := range shards {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !isShard(shard) {
			continue
		}
		entries, err := os.ReadDir(s.path(objectsDir, shard.Name()))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if d, err := verity.Parse(shard.Name() + e.Name()); err == nil && e.Type().IsRegular() {
				fn(d)
			}
		}
	}
	return nil
}

// diskUse is the number of bytes that path occupies, 0 when it cannot be asked.
func diskUse(path string) int64 {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0
	}
	return st.Blocks * 512
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// SealAll gives every object and image its seal and checks the digest it then
// measures against its name. It is the first boot of a disk that was written
// without fs-verity, and safe to repeat after a cut. The caller removes
// UnsealedMarker afterwards; SealAll has synced the file system by then.
func (s *Store) SealAll(ctx context.Context, done func(n int)) error {
	var list []written // without numbers: the files have their names already
	v, err := s.Survey()
	if err != nil {
		return fmt.Errorf("sealing: %w", err)
	}
	for _, d := range v.Images {
		list = append(list, written{digest: d, image: true})
	}
	if err := s.walkObjects(ctx, func(d verity.Digest) { list = append(list, written{digest: d}) }); err != nil {
		return fmt.Errorf("sealing: %w", err)
	}
	err = parallel(ctx, sealers, len(list), func(i int) error {
		if err := sealFile(s.Sealer, s.pathOf(list[i]), list[i].digest); err != nil {
			return err
		}
		if done != nil {
			done(1)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("sealing %q: %w", filepath.Clean(s.Dir), err)
	}
	return syncFS(s.Dir)
}
