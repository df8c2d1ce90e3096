// Package cli is the ashlar command: one file per verb, each of the same
// shape (a constructor, an options struct, a run function). It is the only
// package that prints, exits or reads the environment.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/machine/update"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// Exit codes; `ashlar help` lists them.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitDamaged     = 3   // verify found something wrong
	exitDiffers     = 4   // diff found differences
	exitBusy        = 5   // another ashlar holds the lock
	exitUnreachable = 6   // the repository could not be asked
	exitStale       = 7   // its signatures are past their time
	exitUntrusted   = 8   // it is not signed as it must be, or shows the past
	exitInterrupted = 130 // Ctrl-C
)

// globals is what every verb shares.
type globals struct {
	stdout, stderr io.Writer
	json           bool
	quiet          bool
	progress       progress.Reporter // set before a verb runs
	begun          bool              // a verb runs: its words were right
}

// codeError is an error with an exit code of its own.
type codeError struct {
	code int
	err  error // nil: everything was said already
}

func (e *codeError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *codeError) Unwrap() error { return e.err }

// hintError is an error with what would help.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }
func (e *hintError) Hint() string  { return e.hint }

// Main runs the command with args and returns its exit code.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, args, &globals{stdout: os.Stdout, stderr: os.Stderr})
}

func run(ctx context.Context, args []string, g *globals) int {
	root := newRootCommand(g)
	root.SetArgs(args)
	root.SetOut(g.stdout)
	root.SetErr(g.stderr)
	c, err := root.ExecuteContextC(ctx)
	if err != nil && !g.begun {
		err = &codeError{exitUsage, fmt.Errorf("%w (see '%s --help')", err, c.CommandPath())}
	}
	if bar, ok := g.progress.(interface{ finish() }); ok {
		bar.finish()
	}
	switch coded := (*codeError)(nil); {
	case err == nil:
		return exitOK
	case ctx.Err() != nil:
		fmt.Fprintln(g.stderr, "ashlar: interrupted")
		return exitInterrupted
	case errors.As(err, &coded):
		if coded.err != nil {
			g.printError(coded.err)
		}
		return coded.code
	default:
		g.printError(err)
		return exitCodeOf(err)
	}
}

// exitCodeOf tells apart what can be wrong with a repository; the rest is exitError.
func exitCodeOf(err error) int {
	switch update.VerdictOn(err) {
	case update.Unreachable:
		return exitUnreachable
	case update.Stale:
		return exitStale
	case update.Untrusted:
		return exitUntrusted
	}
	return exitError
}

// printError writes one sentence, and what helps where that is known.
func (g *globals) printError(err error) {
	fmt.Fprintf(g.stderr, "ashlar: %v\n", err)
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		if hint := hinted.Hint(); hint != "" {
			fmt.Fprintf(g.stderr, "ashlar: hint: %s\n", hint)
		}
	}
}

// printJSON writes v to stdout, indented.
func (g *globals) printJSON(v any) error {
	enc := json.NewEncoder(g.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func (g *globals) printf(format string, args ...any) { fmt.Fprintf(g.stdout, format, args...) }

func newRootCommand(g *globals) *cobra.Command {
	root := &cobra.Command{
		Use:   "ashlar",
		Short: "Sealed, signed Linux systems: built from a recipe, updated as a whole",
		Long: `Ashlar turns a recipe into a sealed system image, publishes it in a container
registry, and updates machines to it atomically, with the way back kept.

Exit codes: 0 done; 1 failed, nothing half-done; 2 wrong usage; 3 verify found
damage; 4 diff found differences; 5 another ashlar is at work; 6 the repository
cannot be reached; 7 its signatures are past their time; 8 it cannot be trusted;
130 interrupted.`,
		Example: `  ashlar build recipes/server.toml -o out/
  ashlar publish out/ registry.example/acme/server --channel stable --keys keys/
  ashlar update --reboot`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version(),
	}
	flags := root.PersistentFlags()
	flags.BoolVar(&g.json, "json", false, "answer in JSON")
	flags.BoolVarP(&g.quiet, "quiet", "q", false, "no progress on stderr")
	root.PersistentPreRun = func(*cobra.Command, []string) {
		g.progress = progress.None
		if !g.quiet {
			g.progress = newProgressLine(g.stderr)
		}
	}
	root.AddGroup(
		&cobra.Group{ID: "publish", Title: "Making and publishing images:"},
		&cobra.Group{ID: "machine", Title: "On a machine:"},
		&cobra.Group{ID: "format", Title: "Formats:"})
	for _, verb := range verbs() {
		root.AddCommand(verb(g))
	}
	finish(root, g)
	return root
}

// finish gives c and all below it what they have in common: whatever is wrong
// before a verb begins is wrong usage, and a word that is no command is never
// taken for a wish to see the help.
func finish(c *cobra.Command, g *globals) {
	if c.HasSubCommands() {
		c.Args = noSuchCommand
		c.DisableFlagsInUseLine = true
		c.SuggestionsMinimumDistance = 2
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	do := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		g.begun = true
		return do(c, args)
	}
	for _, child := range c.Commands() {
		finish(child, g)
	}
}

func noSuchCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("%s has no command %q", c.CommandPath(), args[0])
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		return &hintError{err, fmt.Sprintf("%s %s", c.CommandPath(), strings.Join(near, " or "))}
	}
	return err
}

// verbs lists the constructors of all commands.
func verbs() []func(*globals) *cobra.Command {
	return []func(*globals) *cobra.Command{
		newRecipeCommand, newBuildCommand, newInspectCommand, newDiffCommand,
		newServeCommand, newKeysCommand, newPublishCommand, newChannelCommand, newTrustCommand, newDiskCommand, newSecureBootCommand, newMediaCommand,
		newStatusCommand, newUpdateCommand, newSwitchCommand, newRollbackCommand,
		newPinCommand, newUnpinCommand, newEtcCommand, newVerifyCommand, newGCCommand,
		newHealthCommand, newHistoryCommand, newInstallCommand, newResetCommand,
		newBootRecordCommand,
		newComposefsCommand,
	}
}
