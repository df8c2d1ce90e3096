package cli

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/etc"
	"github.com/ashlar-os/ashlar/internal/machine/sysroot"
	"github.com/ashlar-os/ashlar/internal/machine/update"
)

// etcAnswer is what `ashlar etc diff --json` and `ashlar etc reset --json` print.
type etcAnswer struct {
	Changes []etc.Change `json:"changes"`
}

func newEtcCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "etc",
		GroupID: "machine",
		Short:   "Show and undo what was changed in /etc on this machine",
		Long: `The image brings its own /etc; what this machine changed lies over it. These
verbs show exactly that difference, and take parts of it back.`,
		Example: "  ashlar etc diff\n  ashlar etc reset /etc/ssh/sshd_config",
	}
	c.AddCommand(&cobra.Command{
		Use:   "diff",
		Short: "List what differs from the image's /etc",
		Long: `List every path in /etc that this machine added, changed or deleted, and nothing
else: what the image brought is sealed, and stays as it came.`,
		Example: "  ashlar etc diff --json",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return runEtcDiff(c.Context(), g) },
	}, &cobra.Command{
		Use:   "reset PATH",
		Short: "Give a path in /etc back the image's version",
		Long: `Take this machine's changes of a file or a whole directory in /etc back, so that
the image's version shows again, now and in every deployment to come. What was
added here is deleted.`,
		ValidArgsFunction: completeChanges,
		Example:           "  ashlar etc reset /etc/ssh/sshd_config",
		Args:              cobra.ExactArgs(1),
		RunE:              func(c *cobra.Command, args []string) error { return runEtcReset(c.Context(), args[0], g) },
	})
	return c
}

// completeChanges completes with the paths that were changed in /etc.
func completeChanges(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	m, err := openMachine()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	layers, err := etcLayers(m)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	changes, err := etc.Diff(layers.Lower, layers.Upper)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []string
	for _, change := range changes {
		words = append(words, change.Path)
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// etcLayers are the directories of the running deployment's /etc.
func etcLayers(m *update.Machine) (etc.ResetOptions, error) {
	if m.Running.IsZero() {
		return etc.ResetOptions{}, &notAshlarError{fmt.Errorf("no deployment is running")}
	}
	root := machineRoot()
	return etc.ResetOptions{
		Lower:  filepath.Join(root, "usr/etc"),
		Upper:  m.Store.EtcUpper(m.Running),
		Merged: filepath.Join(root, "etc"),
	}, nil
}

func runEtcDiff(_ context.Context, g *globals) error {
	m, err := openMachine()
	if err != nil {
		return err
	}
	layers, err := etcLayers(m)
	if err != nil {
		return err
	}
	changes, err := etc.Diff(layers.Lower, layers.Upper)
	if err != nil {
		return err
	}
	return printChanges(g, changes)
}

func runEtcReset(_ context.Context, path string, g *globals) error {
	m, unlock, err := lockMachine("etc reset")
	if err != nil {
		return err
	}
	defer unlock()
	layers, err := etcLayers(m)
	if err != nil {
		return err
	}
	changes, err := etc.Reset(layers, path)
	if err != nil {
		return err
	}
	return printChanges(g, changes)
}

func printChanges(g *globals, changes []etc.Change) error {
	if g.json {
		if changes == nil {
			changes = []etc.Change{}
		}
		return g.printJSON(etcAnswer{changes})
	}
	for _, c := range changes {
		if c.What != "" {
			g.printf("%s %s (%s)\n", c.Kind, c.Path, c.What)
		} else {
			g.printf("%s %s\n", c.Kind, c.Path)
		}
	}
	return nil
}

// etcPreview is what the /etc merge will do at the first boot of a staged
// deployment, as far as it can be known now.
type etcPreview struct {
	*etc.Report
	Error string `json:"error,omitempty"` // why there is no preview
}

// previewEtc merges on paper. That it fails does not stop an update: the merge
// itself is done at the first boot, and going back is always possible.
func previewEtc(m *update.Machine, image verity.Digest) *etcPreview {
	layers, err := etcLayers(m)
	if err != nil {
		return &etcPreview{Error: err.Error()}
	}
	f, err := m.Store.OpenImage(image)
	if err != nil {
		return &etcPreview{Error: err.Error()}
	}
	defer f.Close()
	dir, release, err := sysroot.ShowImage(f, m.Store.ObjectsPath())
	if err != nil {
		return &etcPreview{Error: err.Error()}
	}
	defer release()
	report, err := etc.Preview(etc.MergeOptions{
		BaseDir: layers.Lower, MineUpper: layers.Upper, TheirsDir: filepath.Join(dir, "usr/etc"),
	})
	if err != nil {
		return &etcPreview{Error: err.Error()}
	}
	return &etcPreview{Report: report}
}

func (p *etcPreview) print(g *globals) {
	if p.Error != "" {
		g.printf("what becomes of /etc cannot be said yet: %s\n", p.Error)
		return
	}
	count := make(map[etc.Result]int)
	for _, item := range p.Items {
		count[item.Result]++
	}
	g.printf("/etc: %d changes of this machine are kept, %d merged, %d conflicts\n",
		count[etc.Kept]+count[etc.Deleted], count[etc.Merged], count[etc.Conflict])
	for _, item := range p.Conflicts() {
		g.printf("  conflict %s: %s\n", item.Path, item.Detail)
	}
}
