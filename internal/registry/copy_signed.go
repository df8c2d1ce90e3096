package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/progress"
)

// CopySigned copies a whole signed repository: what every tag names, versions
// before channels, and last the signed metadata as it was read first, so that it
// promises nothing which was not copied. What another publisher signed in dst, or
// a newer state of the same, is not replaced.
//
// Nothing is signed for it: machines take the copy for what it is, because trust
// is in the signatures and not in the place.
func CopySigned(ctx context.Context, src, dst *Repository, report progress.Reporter) (CopyResult, error) {
	result, err := copySigned(ctx, src, dst, report)
	if err != nil {
		return result, fmt.Errorf("copying %s to %s: %w", src.Name, dst.Name, err)
	}
	return result, nil
}

func copySigned(ctx context.Context, src, dst *Repository, report progress.Reporter) (sum CopyResult, err error) {
	from, err := src.readTrust(ctx)
	if err != nil {
		return sum, err
	}
	to, err := dst.readTrust(ctx)
	if err != nil && !errors.Is(err, ErrNoTrust) {
		return sum, err
	}
	if to != nil && to.Manifest.Digest != from.Manifest.Digest {
		newer, err := from.continues(ctx, to)
		if err != nil {
			return sum, err
		}
		if !newer {
			return sum, &RefusedError{
				err:  errors.New("what is signed there is newer, or another publisher's"),
				hint: "copy to an empty repository",
			}
		}
	}
	tags, err := src.Tags(ctx)
	if err != nil {
		return sum, err
	}
	tags = slices.DeleteFunc(tags, func(t string) bool { return strings.HasPrefix(t, "sha256-") || t == TagTrust })
	slices.SortStableFunc(tags, func(a, b string) int {
		switch x, y := isVersionTag(a), isVersionTag(b); {
		case x == y:
			return 0
		case x:
			return -1
		}
		return 1
	})
	for _, tag := range tags {
		one, err := copyTag(ctx, src, dst, tag, tag, report)
		if err != nil {
			return sum, fmt.Errorf("tag %q: %w", tag, err)
		}
		sum.Blobs, sum.Present, sum.Bytes = sum.Blobs+one.Blobs, sum.Present+one.Present, sum.Bytes+one.Bytes
	}
	last, err := copyTag(ctx, src, dst, from.Manifest.Digest.String(), TagTrust, progress.None)
	sum.Descriptor = last.Descriptor
	return sum, err
}
