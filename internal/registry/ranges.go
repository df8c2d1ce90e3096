package registry

import (
	"context"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Range is a part of a blob, in bytes.
type Range struct {
	Offset, Length int64
}

// FetchRanges reads ranges of one blob over some connections (0: as Options
// says) and calls fn for each, from as many goroutines, in no certain order. r
// gives exactly the bytes of range i, resumed inside the range after a cut, and
// must be read by fn before it returns. Nothing is held back in memory. The
// first error ends it all.
func (r *Repository) FetchRanges(ctx context.Context, desc ocispec.Descriptor, ranges []Range, connections int, fn func(i int, r io.Reader) error) error {
	if connections <= 0 {
		connections = max(r.connections, 1)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(connections)
	for i, rg := range ranges {
		if groupCtx.Err() != nil {
			break
		}
		group.Go(func() error {
			rc, err := r.FetchRange(groupCtx, desc, rg.Offset, rg.Length)
			if err != nil {
				return err
			}
			defer rc.Close()
			if err := fn(i, rc); err != nil {
				return fmt.Errorf("bytes %d+%d of %s: %w", rg.Offset, rg.Length, desc.Digest, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}
