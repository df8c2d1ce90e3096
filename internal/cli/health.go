package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/machine/boot"
	"github.com/ashlar-os/ashlar/internal/machine/health"
	"github.com/ashlar-os/ashlar/internal/machine/history"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/sysroot"
	"github.com/ashlar-os/ashlar/internal/machine/update"
)

type healthOptions struct {
	boot   bool
	failed bool
}

// healthAnswer is what `ashlar health --json` prints.
type healthAnswer struct {
	Schema int `json:"schema"`
	*health.Report
}

func newHealthCommand(g *globals) *cobra.Command {
	var o healthOptions
	c := &cobra.Command{
		Use:     "health",
		GroupID: "machine",
		Short:   "Check whether this system has come up right",
		Long: `Make the checks that decide, after an update, whether the new system is kept:
systemd reached its default target, no unit that the image requires has failed,
there is a way to the network where the image asks for one, and every executable
in /usr/lib/ashlar/health.d and /etc/ashlar/health.d ends well and in time.

The exit code is 1 when a check fails. Nothing is changed by it: run it as often
as you like. At every boot ashlar-health.service runs it with --boot, which keeps what
failed for "ashlar status"; a boot that is on trial ends then, by --failed.`,
		Example: "  ashlar health\n  ashlar health --json | jq -r '.checks[] | select(.good | not) | .name'",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return runHealth(c.Context(), o, g) },
	}
	flags := c.Flags()
	flags.BoolVar(&o.boot, "boot", false, "keep what failed as the outcome of this boot")
	flags.BoolVar(&o.failed, "failed", false, "end a boot on trial that was not good")
	for _, name := range []string{"boot", "failed"} {
		if err := flags.MarkHidden(name); err != nil {
			panic(err) // it was made three lines above
		}
	}
	c.MarkFlagsMutuallyExclusive("boot", "failed")
	return c
}

func runHealth(ctx context.Context, o healthOptions, g *globals) error {
	switch {
	case o.failed:
		return runHealthFailed(ctx, g)
	case o.boot:
		return runHealthBoot(ctx, g)
	}
	report, err := checkHealth(ctx)
	if err != nil {
		return err
	}
	return printHealth(g, report)
}

func checkHealth(ctx context.Context) (*health.Report, error) {
	root := machineRoot()
	config, err := health.ReadConfig(root)
	if err != nil {
		return nil, err
	}
	return (&health.Checker{Root: root, Config: config}).Check(ctx)
}

func printHealth(g *globals, report *health.Report) error {
	failed := report.Failed()
	var err error
	if len(failed) > 0 {
		err = &codeError{exitError, nil}
	}
	if g.json {
		return errors.Join(g.printJSON(healthAnswer{1, report}), err)
	}
	for _, check := range report.Checks {
		took := (time.Duration(check.MS) * time.Millisecond).Round(10 * time.Millisecond)
		if check.Good {
			g.printf("good    %s (%s)\n", check.Name, took)
			continue
		}
		g.printf("FAILED  %s: %s\n", check.Name, check.Reason)
		for _, line := range check.Lines {
			g.printf("        %s\n", line)
		}
	}
	if len(failed) > 0 {
		return &codeError{exitError, fmt.Errorf("%d of %d health checks failed: %s: %s", len(failed), len(report.Checks), failed[0].Name, failed[0].Reason)}
	}
	return nil
}

// runHealthBoot is what ashlar-health.service runs: what fails is kept. Only what
// keeps it can write to the store; the checks, which are anybody's, cannot.
func runHealthBoot(ctx context.Context, g *globals) error {
	report, err := checkHealth(ctx)
	if err != nil {
		return err
	}
	if !report.Good {
		keep := func() error { return keepFailure(report.Failure(history.BootID(machineRoot()))) }
		if machineRoot() == "/" {
			err = sysroot.Writable(sysrootDir, keep)
		} else {
			err = keep()
		}
		if err != nil {
			g.printError(err) // what failed is said below all the same
		}
	}
	return printHealth(g, report)
}

func keepFailure(f history.Failure) error {
	m, err := openStore()
	if err != nil {
		return err
	}
	return errors.Join(m.RecordFailure(f), stayFailed(m))
}

// stayFailed keeps a boot that was not on trial from being held against a
// deployment that is kept although it is not good.
func stayFailed(m *update.Machine) error {
	state, err := boot.ReadState(machineRoot())
	if err != nil || state.Counted() {
		return err
	}
	return m.StaysFailed()
}

// runHealthFailed is what ashlar-health-failed.service runs in a boot that is
// on trial and has failed. Its own failure makes systemd restart the machine,
// which is mostly the purpose.
func runHealthFailed(ctx context.Context, g *globals) error {
	booted, err := boot.ReadState(machineRoot())
	if err != nil {
		return err
	}
	if !booted.Counted() {
		return errors.New("this boot is not on trial, and is not ended; ashlar health says how it is")
	}
	m, err := openStore()
	if err != nil {
		return err
	}
	id := history.BootID(machineRoot())
	if f := history.ReadFailure(m.Store.DeploymentPath(m.Running)); f == nil || f.Boot != id {
		if err := m.RecordFailure(health.Unfinished(ctx, id)); err != nil {
			g.printError(err)
		}
	}
	m, unlock, err := lockMachine("health")
	if err != nil {
		return err
	}
	defer unlock()
	s, err := m.Look()
	if err != nil {
		return err
	}
	plan := m.PlanResort(s)
	if err := m.Resort(plan); err != nil {
		return err
	}
	switch {
	case plan.Stay:
		g.printf("every deployment here has failed; %s gets furthest, and goes on running\n", plan.Target)
		return nil
	case plan.Target != "":
		return fmt.Errorf("this boot was not good and every boot file is out of tries; the machine restarts into %s", plan.Target)
	}
	return errors.New("this boot was not good; the machine restarts")
}

// openStore opens the machine without its ESP, to write down what failed: that
// has to work also where the ESP is what is wrong. It takes no lock.
func openStore() (*update.Machine, error) {
	if err := refuseMedium(); err != nil {
		return nil, err
	}
	root := machineRoot()
	if root == "/" {
		if err := sysroot.EnsureWritable(sysrootDir); err != nil {
			return nil, &notAshlarError{err}
		}
	}
	st, err := store.Open(filepath.Join(root, sysrootDir, "ashlar"))
	if err != nil {
		return nil, &notAshlarError{err}
	}
	running, err := boot.Running(root)
	if err != nil {
		return nil, err
	}
	return &update.Machine{Store: st, Running: running}, nil
}
