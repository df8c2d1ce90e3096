package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/ashlar-os/ashlar/internal/progress"
)

// copyTrust takes the signed metadata of src along to dst, where dst has none,
// or has an older state of the same. What another publisher has signed there
// stays: a release that was taken from elsewhere is theirs to sign.
func copyTrust(ctx context.Context, src, dst *Repository) error {
	from, err := src.readTrust(ctx)
	if errors.Is(err, ErrNoTrust) {
		return nil
	}
	if err != nil {
		return err
	}
	to, err := dst.readTrust(ctx)
	if err != nil && !errors.Is(err, ErrNoTrust) {
		return err
	}
	if to != nil {
		newer, err := from.continues(ctx, to)
		if err != nil || !newer {
			return err
		}
	}
	_, err = copyTag(ctx, src, dst, from.Manifest.Digest.String(), TagTrust, progress.None)
	return err
}

// continues says whether t is a later state of the metadata in old, as far as
// that shows without keys: it begins with the same root, and has every other that
// old has, and a timestamp of a later version.
func (t *Trust) continues(ctx context.Context, old *Trust) (bool, error) {
	sameRoots := slices.Contains(old.Names(), firstRoot) && !slices.ContainsFunc(old.Names(), func(name string) bool {
		_, role := splitMetadataName(name)
		return role == "root" && t.files[name].Digest != old.files[name].Digest
	})
	if !sameRoots {
		return false, nil
	}
	mine, err := t.timestampVersion(ctx)
	if err != nil {
		return false, err
	}
	theirs, err := old.timestampVersion(ctx)
	return mine > theirs, err
}

// Names of files, and the most that is read of a timestamp, in bytes.
const (
	firstRoot     = "1.root.json"
	timestampFile = "timestamp.json"
	maxTimestamp  = 64 << 10
)

func (t *Trust) timestampVersion(ctx context.Context) (int64, error) {
	b, err := t.File(ctx, timestampFile, maxTimestamp)
	if err != nil {
		return 0, err
	}
	var said struct {
		Signed struct {
			Version int64 `json:"version"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(b, &said); err != nil {
		return 0, fmt.Errorf("%q of %s is not valid JSON: %w", timestampFile, t.repo.Name, err)
	}
	return said.Signed.Version, nil
}
