package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/pack"
	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// channel is the tag that every release gets besides its version.
const channel = "stable"

// runPublish makes a release of a directory: reads and measures all files, writes
// the image and the pack, and writes all of it into a layout. It is what "ostree
// commit" is to ostree. The boot file is made before (bootfile), for ostree has
// none, but is compressed and stored here.
func runPublish(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("publish", flag.ContinueOnError)
	dir := flags.String("tree", "", "directory to publish")
	bootFile := flags.String("uki", "", "its boot file")
	out := flags.String("out", "", "layout to write into")
	version := flags.String("version", "", "of the release")
	if err := flags.Parse(args); err != nil {
		return err
	}
	layout, err := registry.CreateLayout(*out)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(*out, "work-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	t, err := composefs.ScanDir(ctx, *dir, composefs.ScanOptions{HardLinks: true})
	if err != nil {
		return err
	}
	in := registry.ReleaseInput{
		EROFS: filepath.Join(work, "image"), UKI: *bootFile, Pack: filepath.Join(work, "pack"),
		SBOM: []byte("{}"), Lock: []byte("# not built from a recipe\n"), Tags: []string{channel},
	}
	root, err := writeImage(in.EROFS, t)
	if err != nil {
		return err
	}
	packed, err := writePack(ctx, in.Pack, t)
	if err != nil {
		return err
	}
	in.DiffID, in.PackIndex = packed.DiffID, packed.Index.Encode()
	in.Document = &release.Document{
		Schema: release.Schema, ID: "server-" + *version, Name: "server", Version: *version,
		Architecture: "amd64", Created: "2025-01-01T00:00:00Z", Images: []release.Image{root},
		Pack:      release.File{SHA256: packed.SHA256, Size: packed.Size},
		PackIndex: describe(in.PackIndex), SBOM: describe(in.SBOM), Lock: describe(in.Lock),
		RuleSet: release.RuleSet, Users: map[string]uint32{}, Groups: map[string]uint32{}, Builder: "ashlar-bench",
	}
	boot, err := os.ReadFile(*bootFile)
	if err != nil {
		return err
	}
	in.Document.UKI = describe(boot)
	_, err = layout.WriteRelease(ctx, in)
	return err
}

func describe(b []byte) release.File {
	sum := sha256.Sum256(b)
	return release.File{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(b))}
}

func writeImage(path string, t *tree.Tree) (root release.Image, err error) {
	f, err := os.Create(path)
	if err != nil {
		return root, err
	}
	defer f.Close()
	sum := verity.NewHasher()
	if err := composefs.Write(io.MultiWriter(f, sum), t, composefs.Options{}); err != nil {
		return root, err
	}
	root = release.Image{Role: release.RoleRoot, Digest: sum.Sum()}
	if root.Size, err = f.Seek(0, io.SeekCurrent); err != nil {
		return root, err
	}
	for _, object := range t.Objects() {
		root.Objects++
		root.Bytes += int64(object.Size)
	}
	return root, f.Close()
}

func writePack(ctx context.Context, path string, t *tree.Tree) (pack.Result, error) {
	f, err := os.Create(path)
	if err != nil {
		return pack.Result{}, err
	}
	defer f.Close()
	open := func(n *tree.Node) (io.ReadCloser, error) { return os.Open(n.Source) }
	result, err := pack.Write(ctx, f, t, open, pack.Options{})
	if err != nil {
		return result, fmt.Errorf("packing: %w", err)
	}
	return result, f.Close()
}
