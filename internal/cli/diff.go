package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/publish/compose"
)

type diffOptions struct {
	from, to     string
	packagesOnly bool
}

// diffAnswer is what `ashlar diff --json` prints.
type diffAnswer struct {
	Schema    int             `json:"schema"` // 1
	From      diffSide        `json:"from"`
	To        diffSide        `json:"to"`
	Differ    bool            `json:"differ"`
	BootFile  bool            `json:"boot_file_differs"`
	Packages  []packageChange `json:"packages"`
	Files     []fileChange    `json:"files"`
	TimesOnly int             `json:"times_only"` // names that differ in their time alone; they are not in files
}

type diffSide struct {
	ID      string        `json:"id"`
	Release string        `json:"release"` // digest of the document
	Image   verity.Digest `json:"image"`
}

// packageChange is one package; From is empty where it was added, To where removed.
type packageChange struct {
	Name         string `json:"name"`
	Architecture string `json:"architecture,omitempty"`
	From         string `json:"from,omitempty"`
	To           string `json:"to,omitempty"`
}

type fileChange struct {
	Path   string   `json:"path"`
	Change string   `json:"change"`         // "added", "removed", "changed"
	What   []string `json:"what,omitempty"` // of a change: "content", "mode", "owner", …
}

func newDiffCommand(g *globals) *cobra.Command {
	var o diffOptions
	c := &cobra.Command{
		Use:     "diff A B",
		GroupID: "publish",
		Short:   "Show in what two releases differ",
		Long: `Show the packages and the files in which release B differs from release A. Each
is a directory that "ashlar build" wrote or a REPOSITORY[:TAG].

Packages come from the software lists and files from the images: a file is
changed when its content, target, type, mode, owner, attributes or number of
hard links is. Names that differ only in their time, which is that of the lock,
are counted and not listed.

Exit code 0: the images and boot files are the same, or, with --packages, the
packages are; 4: they differ.`,
		Example: `  ashlar diff out-1/ out-2/
  ashlar diff --packages registry.example/acme/server:1.0.0 registry.example/acme/server:stable`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeLayouts(2),
		RunE: func(c *cobra.Command, args []string) error {
			o.from, o.to = args[0], args[1]
			return runDiff(c.Context(), o, g)
		},
	}
	c.Flags().BoolVar(&o.packagesOnly, "packages", false, "compare the packages only")
	return c
}

func runDiff(ctx context.Context, o diffOptions, g *globals) error {
	from, err := openPublished(ctx, o.from)
	if err != nil {
		return err
	}
	to, err := openPublished(ctx, o.to)
	if err != nil {
		return err
	}
	a := compareReleases(from, to, o.packagesOnly)
	if g.json {
		err = g.printJSON(a)
	} else {
		err = printDiff(g.stdout, a)
	}
	if err == nil && a.Differ {
		return &codeError{exitDiffers, nil}
	}
	return err
}

func compareReleases(from, to *published, packagesOnly bool) diffAnswer {
	a := diffAnswer{
		Schema: 1, From: from.side(), To: to.side(),
		Packages: comparePackages(from.packages, to.packages),
		Files:    []fileChange{},
	}
	a.Differ = len(a.Packages) > 0
	if packagesOnly {
		return a
	}
	a.BootFile = from.Document.UKI != to.Document.UKI
	for _, c := range tree.Compare(from.tree, to.tree) {
		switch {
		case c.Old == nil:
			a.Files = append(a.Files, fileChange{Path: c.Path, Change: "added"})
		case c.New == nil:
			a.Files = append(a.Files, fileChange{Path: c.Path, Change: "removed"})
		case len(c.What) == 1 && c.What[0] == "time":
			a.TimesOnly++
		default:
			what := slices.DeleteFunc(c.What, func(word string) bool { return word == "time" })
			a.Files = append(a.Files, fileChange{Path: c.Path, Change: "changed", What: what})
		}
	}
	// The digest has the last word: it covers also what is not listed here.
	a.Differ = a.Differ || a.BootFile || from.Document.Root().Digest != to.Document.Root().Digest
	return a
}

func (p *published) side() diffSide {
	return diffSide{ID: p.Document.ID, Release: p.DocumentDigest, Image: p.Document.Root().Digest}
}

// comparePackages pairs packages by name and architecture. Several versions of
// one package, which dpkg never has, would be compared as one list.
func comparePackages(from, to []compose.Package) []packageChange {
	type key struct{ name, architecture string }
	versions := func(list []compose.Package) map[key]string {
		m := make(map[key]string, len(list))
		for _, p := range list {
			k := key{p.Name, p.Architecture}
			m[k] = strings.TrimPrefix(m[k]+", "+p.Version, ", ")
		}
		return m
	}
	was, is := versions(from), versions(to)
	changes := []packageChange{}
	for k, version := range was {
		if is[k] != version {
			changes = append(changes, packageChange{k.name, k.architecture, version, is[k]})
		}
	}
	for k, version := range is {
		if _, known := was[k]; !known {
			changes = append(changes, packageChange{k.name, k.architecture, "", version})
		}
	}
	slices.SortFunc(changes, func(a, b packageChange) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Architecture, b.Architecture))
	})
	return changes
}

func printDiff(w io.Writer, a diffAnswer) error {
	var b strings.Builder
	count := map[string]int{}
	for _, p := range a.Packages {
		name := p.Name
		if p.Architecture != "" {
			name += ":" + p.Architecture
		}
		name = printable(name)
		switch {
		case p.From == "":
			count["packages added"]++
			fmt.Fprintf(&b, "+ %s %s\n", name, printable(p.To))
		case p.To == "":
			count["packages removed"]++
			fmt.Fprintf(&b, "- %s %s\n", name, printable(p.From))
		default:
			count["packages changed"]++
			fmt.Fprintf(&b, "~ %s %s → %s\n", name, printable(p.From), printable(p.To))
		}
	}
	signs := map[string]string{"added": "+", "removed": "-", "changed": "~"}
	for _, f := range a.Files {
		count["files "+f.Change]++
		fmt.Fprintf(&b, "%s %s", signs[f.Change], printable(f.Path))
		if len(f.What) > 0 {
			fmt.Fprintf(&b, "  (%s)", strings.Join(f.What, ", "))
		}
		b.WriteByte('\n')
	}
	if !a.Differ {
		fmt.Fprintf(&b, "%s and %s do not differ\n", a.From.ID, a.To.ID)
	} else {
		fmt.Fprintf(&b, "%s → %s: %s\n", a.From.ID, a.To.ID, diffSummary(a, count))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func diffSummary(a diffAnswer, count map[string]int) string {
	var parts []string
	for _, what := range []string{"packages", "files"} {
		for _, change := range []string{"added", "removed", "changed"} {
			if n := count[what+" "+change]; n > 0 {
				parts = append(parts, fmt.Sprintf("%d %s %s", n, what, change))
			}
		}
	}
	if a.TimesOnly > 0 {
		parts = append(parts, fmt.Sprintf("%d more files differ in their time only", a.TimesOnly))
	}
	if a.BootFile {
		parts = append(parts, "the boot file differs")
	}
	if len(parts) == 0 {
		return "the images differ in how they are written only"
	}
	return strings.Join(parts, ", ")
}
