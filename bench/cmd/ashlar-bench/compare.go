package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// comparison is one run of all that has a peer.
type comparison struct {
	work   string // trees, peers and everything that is made
	ashlar string // the command
	init   string // the first process
	self   string // this program
	root   string // the checkout
	runs   int
	report *report

	layout, archive string // of the last run of publish, with v1
}

func runCompare(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	c := &comparison{report: &report{}}
	flags.StringVar(&c.work, "work", "", "directory with the trees v1 and v2 and the peers, as bench/run makes it")
	flags.StringVar(&c.ashlar, "ashlar", "bin/ashlar", "the command")
	flags.StringVar(&c.init, "init", "bin/ashlar-init", "the first process")
	flags.IntVar(&c.runs, "runs", 3, "how often each side does each work")
	flags.StringVar(&c.root, "root", ".", "the checkout")
	only := flags.String("steps", "", "do only these `STEPS`: bootfiles, publish, image, pull, large, iso, media, boot, binaries")
	results := flags.String("results", "", "file to write the table to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if c.self, err = os.Executable(); err != nil {
		return err
	}
	if err := c.clear(); err != nil {
		return err
	}
	for _, step := range c.steps() {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), step.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: %s\n", step.name)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	if c.report.machine, err = describeMachine(); err != nil {
		return err
	}
	if c.report.differences, err = c.differences(); err != nil {
		return err
	}
	if c.report.peers, err = c.peers(); err != nil {
		return err
	}
	if err := os.RemoveAll(c.path("runs")); err != nil {
		return err
	}
	table := c.report.render()
	if err := os.WriteFile(*results, table, 0o644); err != nil {
		return err
	}
	if _, err := os.Stdout.Write(table); err != nil {
		return err
	}
	return c.report.verdict()
}

// step is one part of the comparison.
type step struct {
	name string
	do   func(context.Context) error
}

// steps lists all, in an order in which each finds what it needs.
func (c *comparison) steps() []step {
	return []step{
		{"bootfiles", c.makeBootFiles}, {"publish", c.publish}, {"image", c.writeImages}, {"pull", c.pull},
		{"large", c.pullLarge}, {"iso", c.makeISO}, {"media", c.writeMedia}, {"boot", c.boot}, {"binaries", c.binaries},
	}
}

// clear makes room for what the runs make.
func (c *comparison) clear() error {
	if err := os.RemoveAll(c.path("runs")); err != nil {
		return err
	}
	return os.Mkdir(c.path("runs"), 0o755)
}

// numbered names what one run makes. Nothing is removed between runs: for minutes
// ext4 looks twice at each inode that was freed, and the next run would pay.
func numbered(name string, run int) string { return fmt.Sprintf("runs/%s-%d", name, run) }

func (c *comparison) path(elem ...string) string {
	return filepath.Join(append([]string{c.work}, elem...)...)
}

func (c *comparison) ostree(repo string, args ...string) []string {
	return append([]string{c.path("peers", "ostree.sh"), "--repo=" + c.path(repo)}, args...)
}

// inTurn runs both sides one after the other, so that a busy machine is busy
// for both.
func (c *comparison) inTurn(ours, peer func(run int) (sample, error)) (a, b side, err error) {
	for run := range c.runs {
		x, err := ours(run)
		if err != nil {
			return nil, nil, err
		}
		y, err := peer(run)
		if err != nil {
			return nil, nil, err
		}
		a, b = append(a, x), append(b, y)
	}
	return a, b, nil
}

// trees are what is published: v1 and v2 as packaged, and the same with the
// kernel's modules uncompressed, as Ashlar's tree rules store them.
var trees = []struct{ dir, packaged, version string }{
	{"v1", "v1", "1.0.0"}, {"v2", "v2", "2.0.0"}, {"v1-plain", "v1", "1.0.0"}, {"v2-plain", "v2", "2.0.0"},
}

func (c *comparison) makeBootFiles(ctx context.Context) error {
	for _, t := range trees {
		_, err := measure(ctx, c.self, "bootfile", "-tree", c.path(t.packaged), "-image", c.path(t.dir),
			"-init", c.init, "-version", t.version, "-out", c.path(t.dir+".efi"))
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) publishArgs(dir, version, layout string) []string {
	return []string{c.self, "publish", "-tree", c.path(dir), "-uki", c.path(dir + ".efi"),
		"-version", version, "-out", c.path(layout)}
}

func (c *comparison) commitArgs(dir, repo string) []string {
	return c.ostree(repo, "commit", "--branch=stable", "--tree=dir="+c.path(dir), "--subject="+dir, "--timestamp=@1")
}
