package main

import (
	"context"
	"strings"
	"time"

	"github.com/ashlar-os/ashlar/internal/program"
)

// pull compares a fresh pull of v1, and then the update to v2 on what it left:
// of the same trees, and of those with the modules uncompressed, which ostree's
// trees never are.
func (c *comparison) pull(ctx context.Context) error {
	for _, args := range [][]string{
		c.publishArgs("v2", "2.0.0", c.layout), c.commitArgs("v2", c.archive),
		c.publishArgs("v1-plain", "1.0.0", "runs/layout-plain"), c.publishArgs("v2-plain", "2.0.0", "runs/layout-plain"),
	} {
		if _, err := measure(ctx, args...); err != nil {
			return err
		}
	}
	var ours, peer, plain pulls
	for run := range c.runs {
		for _, do := range []func() error{
			func() error { return ours.add(c.pullBoth(ctx, c.layout, numbered("machine", run))) },
			func() error { return peer.add(c.ostreePullBoth(ctx, numbered("client", run))) },
			func() error { return plain.add(c.pullBoth(ctx, "runs/layout-plain", numbered("machine-plain", run))) },
		} {
			if err := do(); err != nil {
				return err
			}
		}
	}
	c.report.pulls(ours, peer, plain)
	return nil
}

// pulls is all runs of one side.
type pulls struct{ fresh, update side }

func (p *pulls) add(fresh, update sample, err error) error {
	p.fresh, p.update = append(p.fresh, fresh), append(p.update, update)
	return err
}

// pulls writes down what came of it.
func (r *report) pulls(ours, peer, plain pulls) {
	const name = "ostree pull, bare repository"
	r.add(work{name: "fresh pull of v1", ours: ours.fresh, peer: peer.fresh, peerName: name})
	r.add(work{name: "the same, modules uncompressed", ours: plain.fresh})
	r.add(work{name: "update v1 → v2", ours: ours.update, peer: peer.update, peerName: name})
	r.add(work{name: "the same, modules uncompressed", ours: plain.update})

	r.ratio("a fresh pull is faster than `ostree pull`", quotient(peer.fresh.wall(), ours.fresh.wall()), atLeast(3))
	r.count("requests of a fresh pull", ours.fresh.requests(), peer.fresh.requests(), 100)
	r.ratio("an update takes, of `ostree pull`'s time", quotient(ours.update.wall(), peer.update.wall()), atMost(1))
	r.ratio("an update moves, of `ostree pull`'s bytes", quotient(ours.update.bytes(), peer.update.bytes()), atMost(1.25))
	r.count("requests of an update", ours.update.requests(), peer.update.requests(), 100)
	r.memory("peak memory of the agent, fresh pull", ours.fresh.peak())
	r.memory("peak memory of the agent, update", ours.update.peak())

	r.note("modules uncompressed: a fresh pull is faster than `ostree pull`", quotient(peer.fresh.wall(), plain.fresh.wall()))
	r.note("modules uncompressed: an update takes, of `ostree pull`'s time", quotient(plain.update.wall(), peer.update.wall()))
	r.note("modules uncompressed: an update moves, of `ostree pull`'s bytes", quotient(plain.update.bytes(), peer.update.bytes()))
	r.count("modules uncompressed: requests of an update", plain.update.requests(), peer.update.requests(), 100)
	r.memory("modules uncompressed: peak memory of the agent", max(plain.fresh.peak(), plain.update.peak()))
}

func quotient[T time.Duration | int64](a, b T) float64 { return float64(a) / float64(b) }

// pullBoth gives a new machine both releases, one after the other.
func (c *comparison) pullBoth(ctx context.Context, layout, machine string) (fresh, update sample, err error) {
	pull := func(version string) (sample, error) {
		return serveLayout(ctx, c.path(layout), func(repository string) (sample, error) {
			return measure(ctx, c.self, "update", "-machine", c.path(machine), "-repository", repository, "-channel", version,
				"-root", rootOf(c.path(layout)))
		})
	}
	if fresh, err = pull("1.0.0"); err != nil {
		return fresh, update, err
	}
	update, err = pull("2.0.0")
	return fresh, update, err
}

// ostreePullBoth does the same with ostree, object by object: static deltas are
// to be compared with deltas.
func (c *comparison) ostreePullBoth(ctx context.Context, client string) (fresh, update sample, err error) {
	if err := c.newRepository(ctx, client, "bare"); err != nil {
		return fresh, update, err
	}
	pull := func(commit string) (sample, error) {
		return serveFiles(ctx, c.path(c.archive), c.path("nginx"), func(url string) (sample, error) {
			if _, err := measure(ctx, c.ostree(client, "remote", "add", "--if-not-exists", "--no-gpg-verify", "o", url)...); err != nil {
				return sample{}, err
			}
			return measure(ctx, c.ostree(client, "pull", "--url="+url, "--disable-static-deltas", "o", "stable@"+commit)...)
		})
	}
	v1, err := c.commit(ctx, "stable^")
	if err != nil {
		return fresh, update, err
	}
	v2, err := c.commit(ctx, "stable")
	if err != nil {
		return fresh, update, err
	}
	if fresh, err = pull(v1); err != nil {
		return fresh, update, err
	}
	update, err = pull(v2)
	return fresh, update, err
}

// commit is the checksum of a revision in the archive.
func (c *comparison) commit(ctx context.Context, revision string) (string, error) {
	out, err := program.Run(ctx, program.Command{Args: c.ostree(c.archive, "rev-parse", revision)})
	return strings.TrimSpace(string(out)), err
}
