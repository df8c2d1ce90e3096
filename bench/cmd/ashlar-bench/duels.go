package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
)

// publish compares the first release in an empty place. The last layout and the
// last repository stay, to be pulled from.
func (c *comparison) publish(ctx context.Context) error {
	ours, peer, err := c.inTurn(
		func(run int) (sample, error) {
			c.layout = numbered("layout", run)
			return measure(ctx, c.publishArgs("v1", "1.0.0", c.layout)...)
		},
		func(run int) (sample, error) {
			c.archive = numbered("archive", run)
			if err := c.newRepository(ctx, c.archive, "archive"); err != nil {
				return sample{}, err
			}
			return measure(ctx, c.commitArgs("v1", c.archive)...)
		})
	if err != nil {
		return err
	}
	c.report.add(work{name: "tree → published release, v1", ours: ours, peer: peer, peerName: "ostree commit, archive repository"})
	c.report.ratio("publishing is faster than `ostree commit`", peer.wall().Seconds()/ours.wall().Seconds(), atLeast(5))
	return nil
}

// newRepository makes an ostree repository.
func (c *comparison) newRepository(ctx context.Context, name, mode string) error {
	_, err := measure(ctx, c.ostree(name, "init", "--mode="+mode)...)
	return err
}

// writeImages compares making an image from one and the same dump; the images
// must be the same too.
func (c *comparison) writeImages(ctx context.Context) error {
	dump, ours, theirs := c.path("v2.dump"), c.path("ours.img"), c.path("theirs.img")
	if err := c.writeDump(ctx, dump); err != nil {
		return err
	}
	a, b, err := c.inTurn(
		func(int) (sample, error) {
			return measure(ctx, c.ashlar, "composefs", "write", "--dump", dump, "-o", ours)
		},
		func(int) (sample, error) {
			return measure(ctx, c.path("peers", "mkcomposefs.sh"), "--from-file", dump, theirs)
		})
	if err != nil {
		return err
	}
	x, err := os.ReadFile(ours)
	if err != nil {
		return err
	}
	y, err := os.ReadFile(theirs)
	if err != nil {
		return err
	}
	if !bytes.Equal(x, y) {
		return fmt.Errorf("the images that mkcomposefs and ashlar write from %q differ", dump)
	}
	c.report.add(work{name: "dump → image, v2, the same bytes", ours: a, peer: b, peerName: "mkcomposefs --from-file"})
	c.report.ratio("writing an image takes, of `mkcomposefs`'s time", a.wall().Seconds()/b.wall().Seconds(), atMost(1.5))
	return nil
}

func (c *comparison) writeDump(ctx context.Context, dump string) error {
	image := c.path("dump.img")
	for _, args := range [][]string{
		{c.path("peers", "mkcomposefs.sh"), c.path("v2"), image},
		{"sh", "-c", `"$1" composefs dump "$2" >"$3"`, "sh", c.ashlar, image, dump},
	} {
		if _, err := measure(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}
