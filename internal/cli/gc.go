package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update"
)

type gcOptions struct {
	dryRun bool
}

func newGCCommand(g *globals) *cobra.Command {
	var o gcOptions
	c := &cobra.Command{
		Use:     "gc",
		GroupID: "machine",
		Short:   "Remove what no deployment needs",
		Long: `Remove deployments that are neither running, next, previous, staged nor pinned,
then the images and objects that none of the others use. While the running one
still has to prove itself, every boot file stays. Of a release that failed, the
memory stays, so that it is not staged again.

What a run that was cut left goes as well. Files that are not Ashlar's are named, and
stay. It runs by itself after every good boot and every update, and may be run and
interrupted at any time.`,
		Example: "  ashlar gc --dry-run",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return runGC(c.Context(), o, g) },
	}
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would go, and stop")
	return c
}

func runGC(ctx context.Context, o gcOptions, g *globals) error {
	m, unlock, err := lockMachine("gc")
	if err != nil {
		return err
	}
	defer unlock()
	plan, err := m.PlanGC(ctx)
	if err != nil {
		return err
	}
	if !o.dryRun {
		if err := m.GC(ctx, plan); err != nil {
			return err
		}
	}
	if g.json {
		return g.printJSON(plan)
	}
	printGC(g, plan, o.dryRun)
	return nil
}

func printGC(g *globals, plan *update.GCPlan, dryRun bool) {
	done := "removed"
	if dryRun {
		done = "would remove"
	}
	for _, e := range plan.Entries {
		g.printf("%s boot file %s\n", done, e.File)
	}
	for _, d := range plan.Remembered {
		g.printf("%s deployment %s, but for the memory of it\n", done, d.Short())
	}
	for _, d := range plan.Deployments {
		g.printf("%s deployment %s\n", done, d.Short())
	}
	for _, name := range plan.Unknown {
		g.printf("left alone: %s in the store is not Ashlar's\n", name)
	}
	g.printf("%s %d images and %d objects, %s; %d objects stay\n",
		done, len(plan.Sweep.Images), len(plan.Sweep.Objects), formatBytes(plan.Sweep.Bytes), plan.Sweep.Kept)
}

// newBootRecordCommand is what ashlar-booted.service runs once a boot has
// proved good: the machine remembers it, and clears away what that made needless.
func newBootRecordCommand(g *globals) *cobra.Command {
	steady := false
	c := &cobra.Command{
		Use:    "boot-record",
		Hidden: true,
		Short:  "Record that this boot was good (run by ashlar-booted.service)",
		Long: `Remember that the running deployment came up well, and clear away what that
makes needless. ashlar-booted.service runs it after boot-complete.target; it is
of no use to a person. With --steady it notes that the system also stayed up, or
was shut down in order.`,
		Example: "  ashlar boot-record",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if steady {
				return runBootSteady()
			}
			return runBootRecord(c.Context(), g)
		},
	}
	c.Flags().BoolVar(&steady, "steady", false, "the system stayed up, or ends in order")
	return c
}

// runBootSteady takes no lock: an update that takes long must not make a machine
// that is shut down look like one that crashed.
func runBootSteady() error {
	m, err := openStore()
	if err != nil {
		return err
	}
	return m.StaysUp()
}

func runBootRecord(ctx context.Context, g *globals) error {
	m, unlock, err := lockMachine("boot-record")
	if errors.Is(err, store.ErrBusy) {
		// Whoever holds the lock, or takes it next, sees the boot file without
		// its counter, and records it: see update.Machine.Prepare.
		g.printf("not recorded now: %v\n", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	if err := m.RecordGoodBoot(); err != nil {
		return err
	}
	if err := clearAway(ctx, m); err != nil {
		return err
	}
	return tendLoader(m)
}
