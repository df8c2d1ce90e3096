package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update"
	"github.com/ashlar-os/ashlar/internal/program"
)

type updateOptions struct {
	check  bool
	dryRun bool
	retry  bool
	reboot bool
	to     string // a version; "": what the channel names
}

// updateAnswer is what `ashlar update --json` and `ashlar switch --json` print.
type updateAnswer struct {
	Schema  int               `json:"schema"`
	ID      string            `json:"id"` // of the channel's release
	Release string            `json:"release"`
	Verdict update.Verdict    `json:"verdict"`
	Reason  string            `json:"reason,omitempty"`
	Recall  *update.Recall    `json:"recall,omitempty"`   // what runs was withdrawn
	Taken   string            `json:"unstaged,omitempty"` // was staged, is withdrawn, and does not boot next any more
	Staged  bool              `json:"staged"`
	Room    *update.Ahead     `json:"room,omitempty"` // with --check, what it takes at most
	Plan    *update.StagePlan `json:"plan,omitempty"`
	Etc     *etcPreview       `json:"etc,omitempty"`
}

// noRepository is the verdict where there is none to ask.
const noRepository update.Verdict = "no-repository"

func newUpdateCommand(g *globals) *cobra.Command {
	var o updateOptions
	c := &cobra.Command{
		Use:     "update [--retry [VERSION]]",
		GroupID: "machine",
		Short:   "Stage the newest release of this machine's channel",
		Long: `Ask this machine's repository what its channel names and, when that is newer
than what runs, fetch what is missing and make it the next to boot. The running
system is not touched; until the next boot everything stays as it is.

Only what the publisher signed is taken: the keys came with the image, and they
follow the publisher's. Exit code 6 says that the repository cannot be reached,
7 that its signatures are past their time, 8 that it cannot be trusted.

Where there is not enough room, what no deployment needs is cleared away first, and
--check says how much a release takes at most.

What was staged before and has not booted yet is superseded. A release that did
not come up here, or that the machine was rolled back from, is not staged again
unless --retry says so, with its version where the channel names another one. A
release that was withdrawn is never staged, and an older one only with --to. A
machine that follows no repository has nothing to do.`,
		Example: "  ashlar update --check\n  ashlar update --reboot\n  ashlar update --to 1.4.0\n  ashlar update --retry 1.5.0",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				if err := o.retryOf(args[0]); err != nil {
					return err
				}
			}
			return runUpdate(c.Context(), o, g)
		},
		ValidArgsFunction: completeDeployments,
	}
	flags := c.Flags()
	flags.BoolVar(&o.check, "check", false, "only say whether there is something new")
	flags.BoolVar(&o.dryRun, "dry-run", false, "say what would be fetched, and stop")
	flags.BoolVar(&o.retry, "retry", false, "stage the release even if it failed or was gone back from")
	flags.StringVar(&o.to, "to", "", "stage the release `VERSION`, newer or older, and not what the channel names")
	flags.BoolVar(&o.reboot, "reboot", false, "restart into the release when it is staged")
	return c
}

// retryOf takes the version that stands behind --retry.
func (o *updateOptions) retryOf(version string) error {
	switch {
	case !o.retry:
		return &codeError{exitUsage, fmt.Errorf("a version is named with --retry or --to, and %q stands alone", version)}
	case o.to != "" && o.to != version:
		return &codeError{exitUsage, fmt.Errorf("--retry %s and --to %s are two releases", version, o.to)}
	}
	o.to = version
	return nil
}

func runUpdate(ctx context.Context, o updateOptions, g *globals) error {
	if o.to != "" {
		if err := release.CheckVersion(o.to); err != nil {
			return &codeError{exitUsage, err}
		}
	}
	m, err := openToCheck()
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
	return follow(ctx, m, g, o, following{
		verb: "update", Wanted: update.Wanted{Origin: origin, Version: o.to},
		wants: func(v update.Verdict) bool {
			switch v {
			case update.Available:
				return true
			case update.HasFailed, update.WasBack:
				return o.retry
			case update.TooOld, update.TooFar:
				return o.to != ""
			}
			return false
		},
	})
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

// following is what a verb asks of a repository, and what it does with the answer.
type following struct {
	verb string
	update.Wanted
	wants func(update.Verdict) bool // stages what is so
}

// follow looks at the repository and stages what is wanted. Looking takes no lock,
// so that a check that finds nothing stands in nobody's way.
func follow(ctx context.Context, m *update.Machine, g *globals, o updateOptions, f following) error {
	repo, _, err := openRepository(f.Repository)
	if update.VerdictOn(err) == update.Unreachable {
		err = fmt.Errorf("cannot reach the repository: %w", err)
	}
	if err != nil {
		return g.failedCheck(err)
	}
	finding, err := m.Check(ctx, repo, f.Wanted)
	if err != nil {
		return g.failedCheck(err)
	}
	if finding.Forgot != "" {
		fmt.Fprintf(g.stderr, "ashlar: what was accepted of %s before is of no use, so an older state of it would not be noticed this once: %s\n", repo.Name, finding.Forgot)
	}
	if finding.Verdict == update.Withdrawn && (f.Switch || f.Version != "") { // a person asked for it
		return fmt.Errorf("cannot stage %s: %s", finding.ID, finding.Reason)
	}
	keepsOnlyFollowing := f.Switch && !o.dryRun && (finding.Verdict == update.Current || finding.Verdict == update.Waiting)
	if o.check || !f.wants(finding.Verdict) && !keepsOnlyFollowing && finding.Unwanted == nil {
		if !o.check && !o.dryRun && m.Untidy() {
			if _, unlock, err := lockMachine(f.verb); err == nil { // or who is at work will
				unlock()
			}
		}
		return nothingStaged(ctx, m, g, o, finding)
	}
	return stage(ctx, g, o, f, finding)
}

// failedCheck tells apart why nothing could be learnt: in the answer, for
// programs, and by the exit code.
func (g *globals) failedCheck(err error) error {
	if verdict := update.VerdictOn(err); g.json && verdict != "" {
		if err := printUpdate(g, updateAnswer{Verdict: verdict, Reason: err.Error()}); err != nil {
			return err
		}
	}
	return err
}

// stage stages the finding, or only follows where it was found, under the lock.
func stage(ctx context.Context, g *globals, o updateOptions, f following, finding *update.Finding) error {
	m, unlock, err := lockMachine(f.verb)
	if err != nil {
		return err
	}
	defer unlock()
	if !o.dryRun && finding.Unwanted != nil {
		if err := m.Unstage(finding); err != nil {
			return err
		}
	}
	// The machine may have changed while nobody held the lock.
	if err := m.Judge(ctx, finding); err != nil {
		return g.failedCheck(err)
	}
	if !f.wants(finding.Verdict) {
		if f.Switch && !o.dryRun && finding.Verdict != update.Withdrawn {
			if err := m.Follow(finding); err != nil {
				return err
			}
			finding.Reason += fmt.Sprintf("; it follows %s:%s", finding.Origin.Repository, finding.Origin.Channel)
		}
		return nothingStaged(ctx, m, g, o, finding)
	}
	answer := describeFinding(finding)
	plan, err := planStage(ctx, m, g, o, finding)
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

// planStage plans, and where the release does not fit clears up and plans again.
func planStage(ctx context.Context, m *update.Machine, g *globals, o updateOptions, finding *update.Finding) (*update.StagePlan, error) {
	plan, err := m.PlanStage(ctx, finding, g.progress)
	var space *update.SpaceError
	if !errors.As(err, &space) || o.dryRun {
		return plan, err
	}
	gc, gcErr := m.PlanGC(ctx)
	if gcErr != nil || gc.Empty() {
		return nil, err // for want of room; gc says what is wrong with it when it is asked
	}
	if err := m.GC(ctx, gc); err != nil {
		return nil, err
	}
	fmt.Fprintf(g.stderr, "ashlar: %v; what no deployment needs was removed, %s\n", space, formatBytes(gc.Sweep.Bytes))
	return m.PlanStage(ctx, finding, g.progress)
}

// nothingStaged ends a verb that has nothing to stage now.
func nothingStaged(ctx context.Context, m *update.Machine, g *globals, o updateOptions, finding *update.Finding) error {
	answer := describeFinding(finding)
	if finding.Verdict == update.Available {
		var err error
		if answer.Room, err = m.RoomFor(ctx, finding); err != nil {
			return err
		}
	}
	err := printUpdate(g, answer)
	if err == nil && finding.Verdict == update.Waiting && o.reboot && !o.dryRun {
		return reboot(ctx) // it was staged earlier, as by the timer
	}
	return err
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
		Taken: f.Unstaged,
		ID:    f.ID, Release: f.Release.DocumentDigest.String(), Verdict: f.Verdict, Reason: f.Reason, Recall: f.Recalled,
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
		printRoom(g, answer.Room)
	default:
		g.printf("nothing to do: %s\n", answer.Reason)
	}
	if answer.Taken != "" {
		g.printf("%s was staged, and was withdrawn: it does not boot next any more\n", answer.Taken)
	}
	if r := answer.Recall; r != nil {
		g.printf("%s\n", r)
	}
	return nil
}

// printRoom says what an update may take, before anything is fetched for it.
func printRoom(g *globals, room *update.Ahead) {
	if room == nil {
		return
	}
	g.printf("it takes at most %s of %s free in the store, and %s of %s on the ESP\n",
		formatBytes(room.Need.Store), formatBytes(room.Free.Store), formatBytes(room.Need.ESP), formatBytes(room.Free.ESP))
	if len(room.Short()) > 0 {
		g.printf("it may not fit; ashlar update --dry-run says exactly, and ashlar gc --dry-run what can go\n")
	}
}

// reboot asks systemd for it, so that services end in order.
func reboot(ctx context.Context) error {
	_, err := program.Run(ctx, program.Command{Args: []string{"systemctl", "reboot"}})
	return err
}
