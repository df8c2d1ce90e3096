package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update"
	"github.com/ashlar-os/ashlar/internal/program"
)

type updateOptions struct {
	check  bool
	dryRun bool
	retry  bool
	reboot bool
	follow bool // also where there is nothing to stage; switch sets it
}

// updateAnswer is what `ashlar update --json` and `ashlar switch --json` print.
type updateAnswer struct {
	Schema  int               `json:"schema"`
	ID      string            `json:"id"` // of the channel's release
	Release string            `json:"release"`
	Verdict update.Verdict    `json:"verdict"`
	Reason  string            `json:"reason,omitempty"`
	Staged  bool              `json:"staged"`
	Plan    *update.StagePlan `json:"plan,omitempty"`
	Etc     *etcPreview       `json:"etc,omitempty"`
}

// noRepository is the verdict where there is none to ask.
const noRepository update.Verdict = "no-repository"

func newUpdateCommand(g *globals) *cobra.Command {
	var o updateOptions
	c := &cobra.Command{
		Use:     "update",
		GroupID: "machine",
		Short:   "Stage the newest release of this machine's channel",
		Long: `Ask this machine's repository what its channel names and, when that is newer
than what runs, fetch what is missing and make it the next to boot. The running
system is not touched; until the next boot everything stays as it is.

What was staged before and has not booted yet is superseded. A release that did
not come up here, or that the machine was rolled back from, is not staged again
unless --retry says so. A machine that follows no repository has nothing to do.`,
		Example: "  ashlar update --check\n  ashlar update --reboot",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return runUpdate(c.Context(), o, g) },
	}
	flags := c.Flags()
	flags.BoolVar(&o.check, "check", false, "only say whether there is something new")
	flags.BoolVar(&o.dryRun, "dry-run", false, "say what would be fetched, and stop")
	flags.BoolVar(&o.retry, "retry", false, "stage the release even if it failed or was gone back from")
	flags.BoolVar(&o.reboot, "reboot", false, "restart into the release when it is staged")
	return c
}

type switchOptions struct {
	repository string
	updateOptions
}

func newSwitchCommand(g *globals) *cobra.Command {
	var o switchOptions
	c := &cobra.Command{
		Use:     "switch REPOSITORY[:CHANNEL]",
		GroupID: "machine",
		Short:   "Follow another repository or channel, and stage its release",
		Long: `Stage what another repository or channel names, older or newer, of this image or
another one. The deployment that is staged looks for its updates there; going
back also goes back to the old repository. Where the release is on this machine
already, it only follows the other repository from now on.

CHANNEL is "stable" where none is given. http:// before REPOSITORY is for a host
that speaks plain HTTP.`,
		Example: "  ashlar switch registry.example/acme/server:testing\n  ashlar switch registry.example/acme/desktop --reboot",
		Args:    cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.repository = args[0]
			return runSwitch(c.Context(), o, g)
		},
	}
	flags := c.Flags()
	flags.BoolVar(&o.dryRun, "dry-run", false, "say what would be fetched, and stop")
	flags.BoolVar(&o.reboot, "reboot", false, "restart into the release when it is staged")
	return c
}

func runUpdate(ctx context.Context, o updateOptions, g *globals) error {
	m, err := openMachine()
	if err != nil {
		return err
	}
	origin, err := originOf(m)
	var none *noOriginError
	if errors.As(err, &none) {
		// The service that asks after every boot must not fail for that.
		return printUpdate(g, updateAnswer{Verdict: noRepository, Reason: none.Error()})
	}
	if err != nil {
		return err
	}
	if o.check {
		finding, err := check(ctx, m, origin)
		if err != nil {
			return err
		}
		return printUpdate(g, describeFinding(finding))
	}
	return stage(ctx, "update", origin, o, g, func(v update.Verdict) bool {
		return v == update.Available || o.retry && (v == update.HasFailed || v == update.WasBack)
	})
}

func runSwitch(ctx context.Context, o switchOptions, g *globals) error {
	_, channel, err := openRepository(o.repository)
	if err != nil {
		return &codeError{exitUsage, err}
	}
	origin := store.Origin{Repository: o.repository, Channel: "stable"}
	if channel != "" {
		origin.Channel = channel
		origin.Repository = o.repository[:len(o.repository)-len(channel)-1]
	}
	if origin.Repository, err = fixedRepository(origin.Repository); err != nil {
		return err
	}
	o.follow = true
	return stage(ctx, "switch", origin, o.updateOptions, g, func(v update.Verdict) bool {
		return v != update.Current && v != update.Waiting
	})
}

// fixedRepository makes the name of a layout directory mean the same wherever it
// is read later: a deployment keeps it.
func fixedRepository(name string) (string, error) {
	dir, isLayout := strings.CutPrefix(name, "oci:")
	if st, err := os.Stat(name); err == nil && st.IsDir() {
		isLayout = true
	}
	if !isLayout {
		return name, nil
	}
	dir, err := filepath.Abs(dir)
	return "oci:" + dir, err
}

// noOriginError is a machine that was told no repository.
type noOriginError struct{ id string }

func (e *noOriginError) Error() string {
	return e.id + " follows no repository; ashlar switch REPOSITORY:CHANNEL names one"
}

// originOf is where the machine looks for its updates.
func originOf(m *update.Machine) (store.Origin, error) {
	s, err := m.Look()
	if err != nil {
		return store.Origin{}, err
	}
	for _, broken := range s.Broken {
		if broken.Image == m.Running {
			return store.Origin{}, fmt.Errorf("the running deployment cannot be read: %w", broken.Err)
		}
	}
	leading := s.Leading()
	if leading == nil {
		return store.Origin{}, &notAshlarError{fmt.Errorf("no deployment of %q is running", m.Store.Dir)}
	}
	if leading.Origin.Repository == "" {
		return store.Origin{}, &noOriginError{leading.ID()}
	}
	return leading.Origin, nil
}

func check(ctx context.Context, m *update.Machine, origin store.Origin) (*update.Finding, error) {
	repo, _, err := openRepository(origin.Repository)
	if err != nil {
		return nil, err
	}
	return m.Check(ctx, repo, origin.Channel)
}

// stage checks the channel under the lock and stages what wanted accepts.
func stage(ctx context.Context, verb string, origin store.Origin, o updateOptions, g *globals, wanted func(update.Verdict) bool) error {
	m, unlock, err := lockMachine(verb)
	if err != nil {
		return err
	}
	defer unlock()
	finding, err := check(ctx, m, origin)
	if err != nil {
		return err
	}
	answer := describeFinding(finding)
	if !wanted(finding.Verdict) {
		if o.follow && !o.dryRun {
			if err := m.Follow(finding.Release.Document.Root().Digest, origin); err != nil {
				return err
			}
			answer.Reason += fmt.Sprintf("; it follows %s:%s", origin.Repository, origin.Channel)
		}
		err := printUpdate(g, answer)
		if err == nil && finding.Verdict == update.Waiting && o.reboot && !o.dryRun {
			return reboot(ctx) // it was staged earlier, as by the timer
		}
		return err
	}
	plan, err := m.PlanStage(ctx, finding.Release, origin, g.progress)
	if err != nil {
		return err
	}
	defer plan.Discard()
	answer.Plan = plan
	if !o.dryRun {
		if err := m.Stage(ctx, plan, g.progress); err != nil {
			return err
		}
		answer.Staged = true
		answer.Etc = previewEtc(m, plan.Image)
	}
	if err := printUpdate(g, answer); err != nil || !answer.Staged {
		return err
	}
	if err := clearAway(ctx, m); err != nil {
		return fmt.Errorf("%s is staged, and boots next; clearing away what it supersedes failed: %w", plan.ID, err)
	}
	if o.reboot {
		return reboot(ctx)
	}
	return nil
}

// clearAway removes what the machine does not need any more, now.
func clearAway(ctx context.Context, m *update.Machine) error {
	plan, err := m.PlanGC(ctx)
	if err != nil {
		return err
	}
	return m.GC(ctx, plan)
}

func describeFinding(f *update.Finding) updateAnswer {
	return updateAnswer{
		ID: f.Release.Document.ID, Release: f.Release.DocumentDigest, Verdict: f.Verdict, Reason: f.Reason,
	}
}

func printUpdate(g *globals, answer updateAnswer) error {
	answer.Schema = 1
	if g.json {
		return g.printJSON(answer)
	}
	if plan := answer.Plan; plan != nil {
		g.printf("%s: %d of %d objects, %s in %d requests (%s unpacked)\n",
			plan.ID, plan.Missing, plan.Objects, formatBytes(plan.Transfer), plan.Requests, formatBytes(plan.Bytes))
		for _, id := range plan.Replaces {
			g.printf("it replaces %s, which was staged and has not booted\n", id)
		}
	}
	switch {
	case answer.Staged:
		g.printf("%s is staged and boots next; the running system is unchanged\n", answer.ID)
		answer.Etc.print(g)
	case answer.Plan != nil:
		g.printf("nothing was changed (--dry-run)\n")
	case answer.Verdict == update.Available:
		g.printf("%s is available; ashlar update stages it\n", answer.ID)
	default:
		g.printf("nothing to do: %s\n", answer.Reason)
	}
	return nil
}

// reboot asks systemd for it, so that services end in order.
func reboot(ctx context.Context) error {
	_, err := program.Run(ctx, program.Command{Args: []string{"systemctl", "reboot"}})
	return err
}
