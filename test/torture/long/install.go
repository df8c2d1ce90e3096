package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ashlar-os/ashlar/test/fixture"
	"github.com/ashlar-os/ashlar/test/torture"
)

// install does with an installation what the rest does with a machine's life.
func install(ctx context.Context, root string, o options) error {
	dir := filepath.Join(root, ".cache", "torture-install")
	rec, err := torture.Load(dir)
	if errors.Is(err, fs.ErrNotExist) || o.fresh {
		rec, err = recordInstall(ctx, root, dir)
	}
	if err != nil {
		return err
	}
	o.boots = o.installed
	return survive(ctx, rec, dir, o)
}

func recordInstall(ctx context.Context, root, dir string) (*torture.Recording, error) {
	fx, err := fixture.New(root, filepath.Base(dir), os.Stderr)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	rec, err := torture.RecordInstall(ctx, fx, dir)
	if err == nil {
		fmt.Printf("recorded an installation in %s\n", time.Since(began).Round(time.Second))
	}
	return rec, err
}

// again installs again on a disk that firmware passes over, unless that was done before.
func (b *boots) again(ctx context.Context, seen *looked) error {
	if len(seen.Passed) == 0 {
		return nil
	}
	c := seen.Passed[len(seen.Passed)/2]
	mark := filepath.Join(b.dir, "again.txt")
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	began := time.Now()
	if err := b.rec.Reinstall(ctx, c, filepath.Join(b.dir, "again")); err != nil {
		return fmt.Errorf("installing again after %v: %w", c, err)
	}
	said := fmt.Sprintf("%v: firmware passed the disk over, and the medium installed again (%d s)\n", c, int(time.Since(began).Seconds()))
	fmt.Print(said)
	return os.WriteFile(mark, []byte(said), 0o644)
}
