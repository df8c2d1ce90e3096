// Command long is `make torture`: what test/vm's TestTorture and TestInstallCuts do, with as many
// disks and boots as there is time for. It goes on where it was interrupted, and
// keeps what it found in .cache/torture/boots.jsonl, one line a boot.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/ashlar-os/ashlar/internal/vmtest/writelog"
	"github.com/ashlar-os/ashlar/test/fixture"
	"github.com/ashlar-os/ashlar/test/torture"
)

type options struct {
	seed      uint64
	others    int
	boots     int
	installed int
	only      string
	most      int
	jobs      int
	again     bool
	fresh     bool
}

func main() {
	var o options
	flag.Uint64Var(&o.seed, "seed", 1, "another number chooses other cuts")
	flag.IntVar(&o.others, "others", 25, "disks to look at of each flush boundary, beside the one on which nothing since arrived")
	flag.IntVar(&o.boots, "boots", 200, "disks to boot")
	flag.IntVar(&o.installed, "installed", 20, "disks to boot of those that an interrupted installation has left")
	flag.StringVar(&o.only, "only", "", "\"life\" or \"install\": only the one")
	flag.IntVar(&o.most, "most", 0, "end after so many boots, to go on another time; 0: when all are done")
	flag.IntVar(&o.jobs, "jobs", 2, "machines at a time")
	flag.BoolVar(&o.again, "again", false, "boot again what failed before")
	flag.BoolVar(&o.fresh, "fresh", false, "record anew, and forget what was booted before")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	root, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	var all error
	if o.only != "install" {
		all = life(ctx, root, o)
	}
	if o.only != "life" && ctx.Err() == nil {
		all = errors.Join(all, install(ctx, root, o))
	}
	return all
}

// life is a machine's life of updates.
func life(ctx context.Context, root string, o options) error {
	dir := filepath.Join(root, ".cache", "torture")
	rec, err := torture.Load(dir)
	if errors.Is(err, fs.ErrNotExist) || o.fresh {
		rec, err = record(ctx, root, dir)
	}
	if err != nil {
		return err
	}
	site, err := rec.Serve()
	if err != nil {
		return err
	}
	defer site.Close()
	return survive(ctx, rec, dir, o)
}

// survive looks at the disks that cuts of a recording left, and boots some.
func survive(ctx context.Context, rec *torture.Recording, dir string, o options) error {
	seen, err := look(ctx, rec, dir, o)
	if err != nil {
		return err
	}
	for _, v := range seen.Violations {
		fmt.Println("FAILED", v)
	}
	b := &boots{dir: dir, rec: rec, done: make(map[writelog.Cut]boot)}
	for _, s := range seen.Sample {
		b.todo = append(b.todo, boot{Cut: s.Cut, demand: s.Demand})
	}
	if err := b.all(ctx, o); err != nil {
		return err
	}
	if err := b.again(ctx, seen); err != nil {
		return err
	}
	if len(seen.Violations)+b.failed > 0 {
		return fmt.Errorf("%d disks and %d boots failed", len(seen.Violations), b.failed)
	}
	return nil
}

// record builds the releases and records the machine's life.
func record(ctx context.Context, root, dir string) (*torture.Recording, error) {
	fx, err := fixture.New(root, filepath.Base(dir), os.Stderr)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(fx.Build(ctx), fx.MakeDisk(ctx)); err != nil {
		return nil, err
	}
	sealed, err := fx.Seal(ctx)
	if err != nil {
		return nil, err
	}
	return torture.Record(ctx, fx, sealed, dir)
}

// boot is one boot of a cut's disk, and a line of boots.jsonl.
type boot struct {
	Cut     writelog.Cut `json:"cut"`
	Phase   string       `json:"phase"`
	Doing   string       `json:"doing"`
	Seconds int          `json:"seconds"`
	// What `ashlar verify` found wrong, and mended.
	Repaired string `json:"repaired,omitempty"`
	Error    string `json:"error,omitempty"`

	demand torture.Demand
}

type boots struct {
	dir    string
	rec    *torture.Recording
	todo   []boot
	done   map[writelog.Cut]boot // in earlier runs
	failed int
}

// all boots what was not booted before, some at a time.
func (b *boots) all(ctx context.Context, o options) error {
	name := filepath.Join(b.dir, "boots.jsonl")
	if err := b.load(name); err != nil {
		return err
	}
	log, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	var rest []int
	survived := 0
	for i := range b.todo {
		switch before, done := b.done[b.todo[i].Cut]; {
		case !done || before.Error != "" && o.again:
			rest = append(rest, i)
		case before.Error != "":
			b.failed++
		default:
			survived++
		}
	}
	if o.most > 0 {
		rest = rest[:min(o.most, len(rest))]
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	slots := make(chan struct{}, o.jobs)
	for _, i := range rest {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		group.Go(func() {
			defer func() { <-slots }()
			one := b.todo[i]
			began := time.Now()
			repaired, err := b.rec.Boot(ctx, one.Cut, one.demand, filepath.Join(b.dir, fmt.Sprintf("boot-%03d", i+1)))
			if ctx.Err() != nil {
				return // it was interrupted, and says nothing
			}
			mu.Lock()
			defer mu.Unlock()
			one.Phase, one.Doing, one.Seconds = one.demand.Phase, one.demand.Doing, int(time.Since(began).Seconds())
			result := "came back"
			if one.Repaired = repaired; repaired != "" {
				result += ", and repaired " + repaired
			}
			if err != nil {
				one.Error, result = err.Error(), "FAILED: "+err.Error()
				b.failed++
			} else {
				survived++
			}
			fmt.Printf("boot %d of %d, %v, in the phase %q: %s (%d s)\n", i+1, len(b.todo), one.Cut, one.Phase, result, one.Seconds)
			json.NewEncoder(log).Encode(one) //nolint:errcheck // a boot that is not noted is done again
		})
	}
	group.Wait()
	fmt.Printf("%d cuts survived, %d did not, of %d\n", survived, b.failed, len(b.todo))
	return context.Cause(ctx)
}

// load reads which boots were done before, and what came of each the last time.
func (b *boots) load(name string) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var one boot
		// The last line of a run that was killed may be cut off.
		if err := json.Unmarshal(lines.Bytes(), &one); err == nil {
			b.done[one.Cut] = one
		}
	}
	return nil
}
