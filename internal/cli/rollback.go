package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/machine/update"
)

type rollbackOptions struct {
	target string
	dryRun bool
	reboot bool
}

func newRollbackCommand(g *globals) *cobra.Command {
	var o rollbackOptions
	c := &cobra.Command{
		Use:     "rollback [DEPLOYMENT]",
		GroupID: "machine",
		Short:   "Make another deployment the next to boot, by default the previous one",
		Long: `Make a deployment that is on this machine the next to boot: the one before, or
the one that a version, NAME-VERSION or the start of an image digest names. It
comes back with its own /etc. Only names of boot files change, and the choice
stays until an update or another rollback.

Going forward again is the same command with the newer version.`,
		Example: "  ashlar rollback --reboot\n  ashlar rollback 1.4.0",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.target = args[0]
			}
			return runRollback(c.Context(), o, g)
		},
		ValidArgsFunction: completeDeployments,
	}
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would be renamed, and stop")
	c.Flags().BoolVar(&o.reboot, "reboot", false, "restart into it")
	return c
}

func runRollback(ctx context.Context, o rollbackOptions, g *globals) error {
	m, unlock, err := lockMachine("rollback")
	if err != nil {
		return err
	}
	defer unlock()
	s, err := m.Look()
	if err != nil {
		return err
	}
	var target *update.Deployment
	if o.target != "" {
		if target, err = s.Find(o.target); err != nil {
			return err
		}
	}
	plan, err := m.PlanRollback(s, target)
	if err != nil {
		return err
	}
	if !o.dryRun {
		if err := m.Rollback(plan); err != nil {
			return err
		}
	}
	if g.json {
		if err := g.printJSON(plan); err != nil {
			return err
		}
	} else {
		printRollback(g, plan, o.dryRun)
	}
	if o.reboot && !o.dryRun {
		return reboot(ctx)
	}
	return nil
}

func printRollback(g *globals, plan *update.RollbackPlan, dryRun bool) {
	for _, r := range plan.Renames {
		g.printf("%s -> %s\n", r.From, r.To)
	}
	if w := plan.Withdrawn; w != nil {
		g.printf("%s was withdrawn by its publisher on %s: %s\n", plan.To, w.At.Format(time.DateOnly), w.Reason)
	}
	if dryRun {
		g.printf("nothing was changed (--dry-run)\n")
		return
	}
	g.printf("%s boots next\n", plan.To)
}

// pinAnswer is what `ashlar pin --json` and `ashlar unpin --json` print.
type pinAnswer struct {
	ID     string `json:"id"`
	Pinned bool   `json:"pinned"`
}

func newPinCommand(g *globals) *cobra.Command {
	return pinCommand(g, true, &cobra.Command{
		Use:   "pin DEPLOYMENT",
		Short: "Keep a deployment on this machine whatever comes after it",
		Long: `Keep a deployment, with its boot file, its image and its /etc, until it is
unpinned: updates and "ashlar gc" leave it alone. DEPLOYMENT is a version,
NAME-VERSION or the start of an image digest, as "ashlar status" shows them.`,
		Example: "  ashlar pin 1.4.0",
	})
}

func newUnpinCommand(g *globals) *cobra.Command {
	return pinCommand(g, false, &cobra.Command{
		Use:   "unpin DEPLOYMENT",
		Short: "Let a pinned deployment go when nothing else needs it",
		Long: `Take a pin away. The deployment stays while it runs, is the previous one or
boots next; after that the next "ashlar gc" removes it.`,
		Example: "  ashlar unpin 1.4.0",
	})
}

func pinCommand(g *globals, pinned bool, c *cobra.Command) *cobra.Command {
	c.GroupID = "machine"
	c.Args = cobra.ExactArgs(1)
	c.ValidArgsFunction = completeDeployments
	c.RunE = func(c *cobra.Command, args []string) error { return runPin(args[0], pinned, g) }
	return c
}

func runPin(word string, pinned bool, g *globals) error {
	verb := "pin"
	if !pinned {
		verb = "unpin"
	}
	m, unlock, err := lockMachine(verb)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := m.Look()
	if err != nil {
		return err
	}
	d, err := s.Find(word)
	if err != nil {
		return err
	}
	if pinned && d.Remembered() {
		return fmt.Errorf("%s was cleared away; there is nothing to pin", d.ID())
	}
	if err := m.SetPinned(d, pinned); err != nil {
		return err
	}
	if g.json {
		return g.printJSON(pinAnswer{d.ID(), pinned})
	}
	if pinned {
		g.printf("%s is pinned\n", d.ID())
	} else {
		g.printf("%s is not pinned\n", d.ID())
	}
	return nil
}
