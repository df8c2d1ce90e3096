package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update"
)

type switchOptions struct {
	repository string
	root       string // a file
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

The other repository must be signed with the keys that this machine believes
already. One of another publisher needs their root.json: --root FILE, which must
have come to you by a way that you trust.

CHANNEL is "stable" where none is given. http:// before REPOSITORY is for a host
that speaks plain HTTP.`,
		Example: "  ashlar switch registry.example/acme/server:testing\n  ashlar switch registry.example/acme/desktop --reboot\n  ashlar switch registry.example/others/server --root others-root.json",
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
	flags.StringVar(&o.root, "root", "", "believe the keys of `FILE`, another publisher's root.json")
	flags.BoolVar(&o.dryRun, "dry-run", false, "say what would be fetched, and stop")
	flags.BoolVar(&o.reboot, "reboot", false, "restart into the release when it is staged")
	return c
}

func runSwitch(ctx context.Context, o switchOptions, g *globals) error {
	m, err := openToCheck()
	if err != nil {
		return err
	}
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
	w := update.Wanted{Origin: origin, Switch: true}
	if o.root != "" {
		if w.Root, err = readRoot(o.root); err != nil {
			return err
		}
	}
	return follow(ctx, m, g, o.updateOptions, following{
		verb: "switch", Wanted: w,
		wants: func(v update.Verdict) bool {
			return v != update.Current && v != update.Waiting && v != update.Withdrawn
		},
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
