package compose

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// oci makes the tree of base "oci": the image that the lock names by digest,
// or what the recipe's reference means now.
func (b *builder) oci(ctx context.Context) (*tree.Tree, error) {
	b.report.Stage("reading the base image", 0, progress.Items)
	repo, reference, err := registry.Open(b.o.Recipe.Base.Image, b.o.Registry)
	if err != nil {
		return nil, err
	}
	if b.lock.Image != "" {
		reference = b.lock.Image
	}
	base, err := flattenOCI(ctx, ociOptions{
		Source: repo, Reference: reference,
		Platform: ocispec.Platform{OS: "linux", Architecture: b.o.Recipe.Base.Architecture},
		Store: func(n *tree.Node, r io.Reader, _ int64) error {
			b.report.Add(1)
			return b.spool.fillReader(n, r)
		},
	})
	if err != nil {
		return nil, err
	}
	b.lock.Image = base.Manifest.String()
	if err := b.dropVolatile(base.Tree); err != nil {
		return nil, err
	}
	return b.finishInTree(ctx, base.Tree)
}

// directory makes the tree of base "directory" from a root file system on
// this machine. Owners are those on disk; where the caller is not root, what
// belongs to the caller belongs to root in the tree.
func (b *builder) directory(ctx context.Context) (*tree.Tree, error) {
	dir, err := filepath.Abs(b.o.Recipe.Base.Path)
	if err != nil {
		return nil, err
	}
	if fi, err := os.Stat(dir); err != nil {
		return nil, err
	} else if !fi.IsDir() {
		return nil, fmt.Errorf("base %q is not a directory", dir)
	}
	t, err := b.readProgram(ctx, "reading the base", []string{
		"tar", "-C", dir, "--sort=name", "--numeric-owner", "--one-file-system",
		"--xattrs", "--xattrs-include=*", "--format=posix", "-cf", "-", "."})
	if err != nil {
		return nil, err
	}
	if uid := os.Geteuid(); uid != 0 {
		chown(t, map[uint32]uint32{uint32(uid): 0}, map[uint32]uint32{uint32(os.Getegid()): 0})
	}
	if err := b.dropVolatile(t); err != nil {
		return nil, err
	}
	return b.finishInTree(ctx, t)
}
