package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ashlar-os/ashlar/internal/vmtest/writelog"
	"github.com/ashlar-os/ashlar/test/torture"
)

// looked is what came of looking at the disks, and which of them are to be booted. It is
// kept as looked.json for the runs that go on.
type looked struct {
	Seed          uint64
	Others, Boots int
	Violations    []string
	Sample        []chosen
	Passed        []writelog.Cut // of an installation: disks on which firmware finds nothing
}

type chosen struct {
	writelog.Cut
	torture.Demand
}

// look looks at the disks, unless that was done before.
func look(ctx context.Context, rec *torture.Recording, dir string, o options) (*looked, error) {
	name := filepath.Join(dir, "looked.json")
	seen := new(looked)
	b, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(b, seen)
	}
	if err == nil && seen.Seed == o.seed && seen.Others == o.others && seen.Boots == o.boots {
		return seen, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading %q: %w", name, err)
	}
	if seen, err = lookAll(ctx, rec, dir, o); err != nil {
		return nil, err
	}
	if b, err = json.MarshalIndent(seen, "", "\t"); err != nil {
		return nil, err
	}
	return seen, os.WriteFile(name, b, 0o644)
}

func lookAll(ctx context.Context, rec *torture.Recording, dir string, o options) (seen *looked, err error) {
	scratch, err := torture.Scratch(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	j, err := torture.NewJudge(ctx, rec, scratch)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	seen = &looked{Seed: o.seed, Others: o.others, Boots: o.boots}
	began := time.Now()
	bootable, err := j.LookAll(ctx, j.Cuts(o.seed, o.others), func(err error) { seen.Violations = append(seen.Violations, err.Error()) })
	if err != nil {
		return nil, err
	}
	fmt.Printf("looked at in %s: %v\n", time.Since(began).Round(time.Second), j.Report)
	if rec.Medium != "" {
		seen.Passed = j.Passed
	}
	for _, c := range j.Sample(bootable, o.boots, o.seed) {
		seen.Sample = append(seen.Sample, chosen{c, j.Demands(c)})
	}
	return seen, nil
}
