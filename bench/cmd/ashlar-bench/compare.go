package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
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
	c := &comparison{}
	flags.StringVar(&c.work, "work", "", "directory with the trees v1 and v2 and the peers, as bench/run makes it")
	flags.StringVar(&c.ashlar, "ashlar", "bin/ashlar", "the command")
	flags.StringVar(&c.init, "init", "bin/ashlar-init", "the first process")
	flags.IntVar(&c.runs, "runs", 3, "how often each side does each work")
	flags.StringVar(&c.root, "root", ".", "the checkout")
	only := flags.String("steps", "", "do only these `STEPS`: bootfiles, publish, image, pull, large, iso, media, install, boot, binaries")
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
	var parts []*report
	for _, step := range c.steps() {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), step.name) {
			continue
		}
		if len(parts) == 0 || parts[len(parts)-1].title != step.part {
			parts = append(parts, &report{title: step.part, complete: true})
		}
		c.report = parts[len(parts)-1]
		c.report.steps++
		fmt.Fprintf(os.Stderr, "bench: %s\n", step.name)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		if c.report.machine, err = describeMachine(); err != nil {
			return err
		}
	}
	for _, part := range parts {
		part.complete = part.steps == c.stepsOf(part.title)
		if part.title != images {
			continue
		}
		if part.differences, err = c.differences(); err != nil {
			return err
		}
		if part.peers, err = c.peers(); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(c.path("runs")); err != nil {
		return err
	}
	return publishResults(*results, parts)
}

// step is one piece of the comparison.
type step struct {
	part, name string
	do         func(context.Context) error
}

// The parts of the results. Each says when it was measured, and can be measured alone.
const (
	images   = "Images and updates"
	media    = "Media"
	installs = "Installing"
	starts   = "The first process"
)

// steps lists all, part by part, in an order in which each finds what it needs.
func (c *comparison) steps() []step {
	return []step{
		{images, "bootfiles", c.makeBootFiles}, {images, "publish", c.publish}, {images, "image", c.writeImages}, {images, "pull", c.pull},
		{images, "large", c.pullLarge},
		{media, "iso", c.makeISO}, {media, "media", c.writeMedia},
		{installs, "install", c.install},
		{starts, "boot", c.boot}, {starts, "binaries", c.binaries},
	}
}

// stepsOf is how many steps a part has.
func (c *comparison) stepsOf(part string) (n int) {
	for _, step := range c.steps() {
		if step.part == part {
			n++
		}
	}
	return n
}

// manyRuns is how often each side does what takes seconds and waits for the disk.
const manyRuns = 9

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

// inTurn runs both sides in pairs, so that a busy machine is busy for both; the side
// that begins changes from pair to pair. What was written before is on the disk by then,
// so that nobody waits for another's.
func (c *comparison) inTurn(ours, peer func(run int) (sample, error)) (a, b side, err error) {
	return c.pairs(c.runs, ours, peer)
}

func (c *comparison) pairs(n int, ours, peer func(run int) (sample, error)) (a, b side, err error) {
	for run := range n {
		pair := []func() error{
			func() error {
				x, err := ours(run)
				a = append(a, x)
				return err
			},
			func() error {
				y, err := peer(run)
				b = append(b, y)
				return err
			},
		}
		if run%2 == 1 {
			slices.Reverse(pair)
		}
		for _, do := range pair {
			if err := c.sync(); err != nil {
				return nil, nil, err
			}
			if err := do(); err != nil {
				return nil, nil, err
			}
		}
	}
	return a, b, nil
}

// sync brings what was written to the work directory's file system to the disk.
func (c *comparison) sync() error {
	d, err := os.Open(c.work)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
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
