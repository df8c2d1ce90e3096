package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sort"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// VerifyReport is the answer of Verify.
type VerifyReport struct {
	Images  int      `json:"images"`  // read
	Objects int      `json:"objects"` // read
	Bytes   int64    `json:"bytes"`   // read
	Damaged []Damage `json:"damaged"` // images first, then objects by digest
}

// Damage is one image or object that is not what its name says.
type Damage struct {
	Kind   string        `json:"kind"` // "image" or "object"
	Digest verity.Digest `json:"digest"`
	Reason string        `json:"reason"`
	UsedBy []Use         `json:"used_by,omitempty"` // objects only
}

// Use is one image's names for a damaged object.
type Use struct {
	Image verity.Digest `json:"image"`
	Paths []string      `json:"paths"` // absolute in that image, sorted
}

// Verify reads every byte of the images and of every object that they use, and
// compares it with what its name promises. Each is measured (the seal is
// there and is the right one) and read from the disk (the disk still gives
// what was sealed). Damage is in the report; an error is a failure to look.
func (s *Store) Verify(ctx context.Context, images []verity.Digest, p progress.Reporter) (*VerifyReport, error) {
	if p == nil {
		p = progress.None
	}
	r := &VerifyReport{Damaged: []Damage{}}
	trees := make(map[verity.Digest]*tree.Tree)
	sizes := make(map[verity.Digest]uint64)
	var order []verity.Digest
	var total int64
	for _, d := range images {
		if _, seen := trees[d]; seen {
			continue
		}
		t, n, err := s.verifyImage(ctx, d)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		r.Images++
		r.Bytes += n
		if err != nil {
			r.Damaged = append(r.Damaged, Damage{Kind: "image", Digest: d, Reason: reason(err)})
			trees[d] = nil
			continue
		}
		trees[d] = t
		for _, o := range t.Objects() {
			if _, seen := sizes[o.Digest]; !seen {
				sizes[o.Digest] = o.Size
				order = append(order, o.Digest)
				total += int64(o.Size)
			}
		}
	}
	p.Stage("verifying", total, progress.Bytes)
	var mu sync.Mutex
	bad := make(map[verity.Digest]string)
	err := parallel(ctx, runtime.GOMAXPROCS(0), len(order), func(i int) error {
		d := order[i]
		n, err := s.verifyFile(ctx, s.ObjectPath(d), d, int64(sizes[d]))
		p.Add(int64(sizes[d]))
		mu.Lock()
		defer mu.Unlock()
		r.Bytes += n
		if err != nil {
			bad[d] = reason(err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	r.Objects = len(order)
	r.Damaged = append(r.Damaged, nameDamage(bad, trees)...)
	return r, nil
}

func (s *Store) verifyImage(ctx context.Context, d verity.Digest) (*tree.Tree, int64, error) {
	n, err := s.verifyFile(ctx, s.ImagePath(d), d, -1)
	if err != nil {
		return nil, n, err
	}
	t, err := s.ReadImage(d)
	return t, n, err
}

// verifyFile measures and reads one file; size is -1 where nothing says it.
func (s *Store) verifyFile(ctx context.Context, path string, d verity.Digest, size int64) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	f, err := s.openSealed(path, d)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	// Pages already in memory were checked when they came in and say nothing
	// about the disk now, so drop them first. Best effort: pages in use stay.
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	got, n, err := verity.SumReader(io.NewSectionReader(f, 0, 1<<62))
	if err != nil {
		return n, err
	}
	if size >= 0 && n != size {
		return n, fmt.Errorf("%q has %d bytes, want %d", path, n, size)
	}
	if got != d {
		return n, &DigestError{Path: path, Want: d, Got: got}
	}
	return n, nil
}

// reason is the damage as a person would say it.
func reason(err error) string {
	var wrong *DigestError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "missing"
	case errors.Is(err, verity.ErrNotSealed):
		return "not sealed"
	case errors.Is(err, unix.EIO):
		return "the disk gives other bytes than were sealed"
	case errors.As(err, &wrong):
		return "has the digest " + wrong.Got.String()
	}
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}

// nameDamage finds the files that use the bad objects.
func nameDamage(bad map[verity.Digest]string, trees map[verity.Digest]*tree.Tree) []Damage {
	if len(bad) == 0 {
		return nil
	}
	uses := make(map[verity.Digest][]Use)
	for image, t := range trees {
		if t == nil {
			continue
		}
		paths := make(map[verity.Digest][]string)
		_ = t.Walk(func(path string, n *tree.Node) error { // fn never fails
			n = n.Inode()
			if _, ok := bad[n.Digest]; ok && n.IsRegular() {
				paths[n.Digest] = append(paths[n.Digest], path)
			}
			return nil
		})
		for d, list := range paths {
			sort.Strings(list)
			uses[d] = append(uses[d], Use{Image: image, Paths: list})
		}
	}
	var list []Damage
	for d, why := range bad {
		u := uses[d]
		sort.Slice(u, func(i, j int) bool { return u[i].Image.String() < u[j].Image.String() })
		list = append(list, Damage{Kind: "object", Digest: d, Reason: why, UsedBy: u})
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Digest.String() < list[j].Digest.String() })
	return list
}

// parallel calls fn(0) … fn(n-1), at most limit at once, until one fails.
func parallel(ctx context.Context, limit, n int, fn func(i int) error) error {
	g, group := errgroup.WithContext(ctx)
	g.SetLimit(limit)
	for i := range n {
		if group.Err() != nil {
			break
		}
		g.Go(func() error { return fn(i) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}
