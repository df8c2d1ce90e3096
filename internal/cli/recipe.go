package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/publish/recipe"
)

func newRecipeCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "recipe",
		Short:   "Work with recipes",
		GroupID: "publish",
		Long: `A recipe is the source of an image: a TOML file that names a base, packages,
files, accounts and services. "ashlar build" makes a release of it.`,
		Example: "  ashlar recipe check recipes/server.toml",
	}
	cmd.AddCommand(newRecipeCheckCommand(g))
	return cmd
}

type recipeCheckOptions struct {
	path string
	lock string
}

func newRecipeCheckCommand(g *globals) *cobra.Command {
	opts := recipeCheckOptions{}
	cmd := &cobra.Command{
		Use:   "check RECIPE",
		Short: "Check a recipe, and its lock, without building anything",
		Long: `Reads a recipe with everything it includes and says what is wrong with it: the
file, the line, and the line's text. With --lock it also reads that recipe.lock
and says whether it still fits. Nothing is fetched.`,
		Example: `  ashlar recipe check recipes/server.toml
  ashlar recipe check recipes/server.toml --json`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"toml"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.path = args[0]
			return runRecipeCheck(cmd.Context(), opts, g)
		},
	}
	cmd.Flags().StringVar(&opts.lock, "lock", "", "also check this recipe.lock")
	return cmd
}

// recipeCheck is the answer of `ashlar recipe check --json`.
type recipeCheck struct {
	Name        string   `json:"name"`
	Version     string   `json:"version"`
	Base        string   `json:"base"`
	Packages    []string `json:"packages"`     // as the recipe asks for them
	CommandLine []string `json:"command_line"` // kernel arguments
	Inputs      string   `json:"inputs"`       // digest a lock must carry
	Locked      int      `json:"locked"`       // packages in the lock; 0 without --lock
}

func runRecipeCheck(_ context.Context, opts recipeCheckOptions, g *globals) error {
	r, err := recipe.Load(opts.path)
	if err != nil {
		return err
	}
	answer := recipeCheck{
		Name: r.Name, Version: r.Version, Base: r.Base.Kind, Packages: append([]string{}, r.Base.Packages...),
		CommandLine: r.CommandLine(), Inputs: r.InputsDigest(),
	}
	if r.Kernel.Package != "" {
		answer.Packages = append(answer.Packages, r.Kernel.Package)
	}
	if opts.lock != "" {
		lock, err := recipe.LoadLock(opts.lock)
		if err != nil {
			return err
		}
		if lock.Inputs != answer.Inputs {
			return fmt.Errorf("lock %q does not fit recipe %q: its base or packages changed since the lock was made", opts.lock, opts.path)
		}
		answer.Locked = len(lock.Packages)
	}
	if g.json {
		return g.printJSON(answer)
	}
	g.printf("%s %s: base %s, %d packages asked for, kernel arguments: %v\n",
		answer.Name, answer.Version, answer.Base, len(answer.Packages), answer.CommandLine)
	if opts.lock != "" {
		g.printf("the lock fits, with %d packages\n", answer.Locked)
	}
	return nil
}
