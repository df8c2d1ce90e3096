package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// The medium that is written: 4 GiB, of which an eighth is in use, as one of a desktop.
const (
	mediumSize   = 4 << 30
	mediumStride = 32 << 20 // of which the first extent is in use
)

// maxMediaMemory is what writing a medium may occupy, in bytes.
const maxMediaMemory = 200e6

// runMedium writes a release with a made-up medium into a layout. Nothing of it boots;
// its blocks compress not at all.
func runMedium(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("medium", flag.ContinueOnError)
	out := flags.String("out", "", "layout to write into")
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
	text := []byte("made up\n")
	in := registry.ReleaseInput{
		EROFS: filepath.Join(work, "image"), UKI: filepath.Join(work, "uki"), Pack: filepath.Join(work, "pack"),
		MediumBlocks: filepath.Join(work, "blocks"), PackIndex: text, SBOM: text, Lock: text, Tags: []string{channel},
	}
	for _, name := range []string{in.UKI, in.Pack} {
		if err := os.WriteFile(name, text, 0o644); err != nil {
			return err
		}
	}
	root, err := writeImage(in.EROFS, &tree.Tree{Root: &tree.Node{Mode: tree.TypeDir | 0o755, Nlink: 1}})
	if err != nil {
		return err
	}
	blocks, m, err := writeBlocks(in.MediumBlocks)
	if err != nil {
		return err
	}
	if in.MediumMap, err = m.Encode(); err != nil {
		return err
	}
	file := describe(text)
	in.DiffID = "sha256:" + file.SHA256
	in.Document = &release.Document{
		Schema: release.Schema, ID: "desktop-1.0.0", Name: "desktop", Version: "1.0.0",
		Architecture: "amd64", Created: "2025-01-01T00:00:00Z", Images: []release.Image{root},
		UKI: file, Pack: file, PackIndex: file, SBOM: file, Lock: file,
		Medium:  &release.Medium{Size: m.Size, Map: describe(in.MediumMap), Blocks: blocks, RootHash: file.SHA256},
		RuleSet: release.RuleSet, Users: map[string]uint32{}, Groups: map[string]uint32{}, Builder: "ashlar-bench",
	}
	_, err = layout.WriteRelease(ctx, in)
	return err
}

func writeBlocks(path string) (release.File, *medium.Map, error) {
	f, err := os.Create(path)
	if err != nil {
		return release.File{}, nil, err
	}
	defer f.Close()
	m := &medium.Map{Schema: medium.Schema, Size: mediumSize, Open: []medium.Region{
		{Name: medium.RegionPapers, Offset: 8 << 20, Length: medium.PapersSize},
		{Name: medium.RegionAnswers, Offset: 16 << 20, Length: medium.AnswersSize},
	}}
	random := rand.NewChaCha8([32]byte{'m', 'e', 'd', 'i', 'u', 'm'})
	all := sha256.New()
	b := make([]byte, medium.MaxExtent)
	for off := int64(0); off < mediumSize; off += mediumStride {
		random.Read(b)
		m.Extents = append(m.Extents, medium.Extent{Offset: off, Length: medium.MaxExtent, SHA256: sha256.Sum256(b)})
		if _, err := io.MultiWriter(f, all).Write(b); err != nil {
			return release.File{}, nil, err
		}
	}
	return release.File{SHA256: hex.EncodeToString(all.Sum(nil)), Size: m.Data()}, m, f.Close()
}

// writeMedia compares writing a medium to a drive, and reading it back, with dd and cmp:
// of the same bytes, and of the whole image.
func (c *comparison) writeMedia(ctx context.Context) error {
	layout := c.path("runs/medium")
	for _, args := range [][]string{{c.self, "medium", "-out", layout}, {c.self, "sign", "-layout", layout}} {
		if _, err := measure(ctx, args...); err != nil {
			return err
		}
	}
	rel, err := c.mediumRelease(ctx, layout)
	if err != nil {
		return err
	}
	blocks := filepath.Join(layout, "blobs/sha256", rel.Document.Medium.Blocks.SHA256)
	image := c.path("runs/medium.img")
	if _, err := measure(ctx, c.ashlar, "media", "write", "oci:"+layout, "--root", rootOf(layout), "-o", image); err != nil {
		return err
	}
	ours, exact, err := c.pairs(manyRuns,
		func(int) (sample, error) {
			return onDrive(ctx, c.path("runs/drive"), func(drive, file string) []string {
				return []string{c.ashlar, "media", "write", "oci:" + layout, "--root", rootOf(layout), "--to", drive, "--serial", file, "--yes"}
			})
		},
		func(int) (sample, error) { return ddAndCompare(ctx, c.path("runs/drive"), blocks) })
	if err != nil {
		return err
	}
	whole, err := ddAndCompare(ctx, c.path("runs/drive"), image)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("medium of %d GiB with %.0f MB in use → drive, read back", mediumSize>>30, float64(rel.Document.Medium.Blocks.Size)/1e6)
	c.report.add(work{name: name, ours: ours, peer: exact, peerName: "dd oflag=direct bs=4M, cmp: of the bytes in use"})
	c.report.add(work{name: "", peer: side{whole}, peerName: "dd oflag=direct bs=4M, cmp: of the whole image"})
	c.report.ratio("writing a medium takes, of `dd` and `cmp` of the bytes in use", ratio(ours, exact), atMost(1.15))
	c.report.ratio("writing a medium takes, of `dd` and `cmp` of the whole image", ours.wall().Seconds()/whole.wall.Seconds(), atMost(1))
	c.report.memoryBelow("peak memory of writing a medium", ours.peak(), maxMediaMemory)
	return nil
}

func (c *comparison) mediumRelease(ctx context.Context, dir string) (*registry.Release, error) {
	layout, err := registry.OpenLayout(dir)
	if err != nil {
		return nil, err
	}
	return layout.Repository().ReadRelease(ctx, channel)
}

// ddAndCompare writes a file to a new drive, past the cache, and compares.
func ddAndCompare(ctx context.Context, path, from string) (sample, error) {
	return onDrive(ctx, path, func(drive, _ string) []string {
		script := `dd if="$1" of="$2" bs=4M oflag=direct conv=fsync status=none && cmp -n "$(stat -c %s "$1")" "$1" "$2"`
		return []string{"sh", "-c", script, "sh", from, drive}
	})
}

// onDrive runs a program on a new loop device of the medium's size and some more.
func onDrive(ctx context.Context, path string, args func(drive, file string) []string) (s sample, err error) {
	f, err := os.Create(path)
	if err != nil {
		return s, err
	}
	defer os.Remove(path)
	if err := f.Truncate(mediumSize + 64<<20); err != nil {
		return s, err
	}
	if err := f.Close(); err != nil {
		return s, err
	}
	out, err := program.Run(ctx, program.Command{Args: []string{"losetup", "--find", "--show", path}})
	if err != nil {
		return s, err
	}
	drive := strings.TrimSpace(string(out))
	defer func() {
		if _, e := program.Run(ctx, program.Command{Args: []string{"losetup", "--detach", drive}}); err == nil {
			err = e
		}
	}()
	return measure(ctx, args(drive, path)...)
}
