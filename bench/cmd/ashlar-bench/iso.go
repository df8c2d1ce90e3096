package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	format "github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/publish/medium"
)

// The partitions of the medium that is made, in bytes: those of a small desktop. Their
// content compresses not at all and has no holes.
const (
	isoESP     = 120 << 20
	isoPayload = 900 << 20
)

// runISO makes a medium's map and blocks from partitions that are there already.
func runISO(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("iso", flag.ContinueOnError)
	dir := flags.String("dir", "", "directory with the files esp and payload")
	if err := flags.Parse(args); err != nil {
		return err
	}
	_, err := medium.Assemble(ctx,
		medium.Content{Name: "desktop", Version: "1.0.0", Created: time.Unix(1735689600, 0), Image: verity.SumBytes(nil)},
		medium.Parts{ESP: filepath.Join(*dir, "esp"), Payload: filepath.Join(*dir, "payload")},
		medium.Options{Blocks: filepath.Join(*dir, "blocks"), Work: *dir})
	return err
}

// makeISO compares making a medium's image, as it is published, with digests of all its
// blocks, with what xorriso takes to write an image of the same files.
func (c *comparison) makeISO(ctx context.Context) error {
	dir := c.path("runs/iso")
	if err := writeParts(dir); err != nil {
		return err
	}
	ours, peer, err := c.pairs(manyRuns,
		func(int) (sample, error) {
			defer os.Remove(filepath.Join(dir, "blocks"))
			return measure(ctx, c.self, "iso", "-dir", dir)
		},
		func(int) (sample, error) {
			defer os.Remove(filepath.Join(dir, "xorriso.iso"))
			return measure(ctx, "sh", "-c", `cd "$1" && shift && exec "$@"`, "sh", dir,
				"xorriso", "-as", "mkisofs", "-quiet", "-o", "xorriso.iso", "-V", "ASHLAR_MEDIUM", "-r", "-no-pad",
				"-append_partition", "1", "0xef", "esp", "-append_partition", "2", "0x83", "payload",
				"-append_partition", "3", "0x83", "papers", "-append_partition", "4", "0x83", "answers", "-appended_part_as_gpt",
				"-eltorito-alt-boot", "-e", "--interval:appended_partition_1:all::", "-no-emul-boot", "iso")
		})
	if err != nil {
		return err
	}
	name := fmt.Sprintf("partitions of %.0f MB → published medium", float64(isoESP+isoPayload)/1e6)
	c.report.add(work{name: name, ours: ours, peer: peer, peerName: "xorriso: the same files → an image"})
	c.report.ratio("making a medium takes, of `xorriso`'s time for the same files", ratio(ours, peer), atMost(1.5))
	c.report.memoryBelow("peak memory of making a medium", ours.peak(), maxMediaMemory)
	return nil
}

// writeParts makes the files that both sides are given.
func writeParts(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "iso"), 0o755); err != nil {
		return err
	}
	random, b := rand.NewChaCha8([32]byte{'i', 's', 'o'}), make([]byte, 1<<20)
	for name, size := range map[string]int64{"esp": isoESP, "payload": isoPayload, "papers": 0, "answers": 0, "iso/README.TXT": 0} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		for range size >> 20 {
			random.Read(b)
			if _, err := f.Write(b); err != nil {
				return err
			}
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	for name, size := range map[string]int64{"papers": format.PapersSize, "answers": format.AnswersSize} {
		if err := os.Truncate(filepath.Join(dir, name), size); err != nil {
			return err
		}
	}
	return nil
}
