package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// largeFiles is how many files the large image has: four times a desktop's.
const largeFiles = 250_000

// pullLarge looks at memory alone, with an image of a quarter of a million files
// and one of a gigabyte.
func (c *comparison) pullLarge(ctx context.Context) error {
	if err := makeLargeTree(c.path("runs/large"), largeFiles, 1<<30); err != nil {
		return err
	}
	args := c.publishArgs("runs/large", "1.0.0", "runs/layout-large")
	if _, err := measure(ctx, c.self, "bootfile", "-tree", c.path("v1"), "-image", c.path("runs/large"),
		"-init", c.init, "-version", "1.0.0", "-out", c.path("runs/large.efi")); err != nil {
		return err
	}
	published, err := measure(ctx, args...)
	if err != nil {
		return err
	}
	pulled, err := serveLayout(ctx, c.path("runs/layout-large"), func(repository string) (sample, error) {
		return measure(ctx, c.self, "update", "-machine", c.path("runs/machine-large"), "-repository", repository,
			"-root", rootOf(c.path("runs/layout-large")))
	})
	if err != nil {
		return err
	}
	c.report.add(work{name: fmt.Sprintf("%d files → published release", largeFiles), ours: side{published}})
	c.report.add(work{name: fmt.Sprintf("fresh pull of %d files", largeFiles), ours: side{pulled}})
	c.report.memory(fmt.Sprintf("peak memory of the agent, fresh pull of %d files", largeFiles), side{pulled}.peak())
	return nil
}

// makeLargeTree writes a directory with many files of a few kilobytes, no two of
// them the same, and one of size bytes. All of it compresses hardly at all, so
// that the pack is as large as the tree.
func makeLargeTree(dir string, files int, size int64) error {
	random := rand.NewChaCha8([32]byte{'b', 'e', 'n', 'c', 'h'})
	content := make([]byte, 8<<10)
	for i := range files {
		sub := filepath.Join(dir, fmt.Sprintf("%03d", i/1000))
		if i%1000 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				return err
			}
		}
		part := content[:100+random.Uint64()%uint64(len(content)-100)]
		random.Read(part)
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("%03d", i%1000)), part, 0o644); err != nil {
			return err
		}
	}
	f, err := os.Create(filepath.Join(dir, "one"))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(f, random, size); err != nil {
		return err
	}
	return f.Close()
}
