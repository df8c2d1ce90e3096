package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// runUpdate is the machine's agent on a machine that is a directory: it checks
// the channel, plans, and stages, as "ashlar update" does. On an empty machine
// that is a fresh pull. When it has staged a release, that release counts as
// running for the next call, as after a reboot.
func runUpdate(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("update", flag.ContinueOnError)
	dir := flags.String("machine", "", "directory that plays the machine, made if missing")
	repository := flags.String("repository", "", "where releases are")
	tag := flags.String("channel", channel, "channel or version")
	keys := flags.String("root", "", "root.json of who signs them")
	if err := flags.Parse(args); err != nil {
		return err
	}
	m, err := openMachine(*dir)
	if err != nil {
		return err
	}
	unlock, err := m.Store.Lock("update")
	if err != nil {
		return err
	}
	defer unlock()
	repo, _, err := registry.Open(*repository, registry.Options{})
	if err != nil {
		return err
	}
	wanted := update.Wanted{Origin: store.Origin{Repository: *repository, Channel: *tag}, Switch: true}
	if wanted.Root, err = os.ReadFile(*keys); err != nil {
		return err
	}
	finding, err := m.Check(ctx, repo, wanted)
	if err != nil {
		return err
	}
	if finding.Verdict != update.Available {
		return fmt.Errorf("there is nothing to stage: %s", finding.Reason)
	}
	plan, err := m.PlanStage(ctx, finding, progress.None)
	if err != nil {
		return err
	}
	if err := m.Stage(ctx, plan, progress.None); err != nil {
		return err
	}
	return os.WriteFile(runningFile(*dir), []byte(plan.Image.String()), 0o644)
}

func runningFile(root string) string { return filepath.Join(root, "running") }

func openMachine(root string) (*update.Machine, error) {
	s, err := store.Create(filepath.Join(root, "ashlar"))
	if err != nil {
		return nil, err
	}
	s.Sealer = noted{}
	efi := filepath.Join(root, "efi")
	if err := os.MkdirAll(efi, 0o755); err != nil {
		return nil, err
	}
	boot, err := esp.Open(efi)
	if err != nil {
		return nil, err
	}
	m := &update.Machine{Store: s, ESP: boot}
	text, err := os.ReadFile(runningFile(root))
	if errors.Is(err, os.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		m.Running, err = verity.Parse(string(text))
	}
	return m, err
}

// noted stands in for fs-verity, which the kernel that the bench runs on need not
// have, at fs-verity's cost: sealing reads and hashes the whole file, measuring
// reads what sealing noted.
type noted struct{}

const noteName = "user.ashlar.measured"

func (noted) Seal(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	d, _, err := verity.SumReader(io.NewSectionReader(f, 0, st.Size()))
	if err != nil {
		return err
	}
	return unix.Fsetxattr(int(f.Fd()), noteName, d[:], 0)
}

func (noted) Measure(f *os.File) (d verity.Digest, err error) {
	n, err := unix.Fgetxattr(int(f.Fd()), noteName, d[:])
	if err != nil || n != len(d) {
		return verity.Digest{}, verity.ErrNotSealed
	}
	return d, nil
}
