package main

import (
	"context"
	"flag"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// runSeal seals every file of a directory with fs-verity, as many at once as the store
// does, and syncs: what installing does besides copying.
func runSeal(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("seal", flag.ContinueOnError)
	dir := flags.String("dir", "", "directory of files to seal")
	if err := flags.Parse(args); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(32)
	err := filepath.WalkDir(*dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		group.Go(func() error {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			return verity.Enable(f)
		})
		return ctx.Err()
	})
	if wait := group.Wait(); wait != nil {
		return wait
	}
	if err != nil {
		return err
	}
	root, err := os.Open(*dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return unix.Syncfs(int(root.Fd()))
}
