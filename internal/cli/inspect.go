package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/publish/compose"
	"github.com/ashlar-os/ashlar/internal/registry"
)

type inspectOptions struct {
	release  string
	packages bool // list them
	files    bool // list them
	signed   bool // show only what the signatures prove
	root     rootOptions
}

// inspectAnswer is what `ashlar inspect --json` prints: where the release is,
// the document as it is signed, and what can be read from the image.
type inspectAnswer struct {
	Schema       int               `json:"schema"` // 1
	Repository   string            `json:"repository"`
	Tag          string            `json:"tag"`
	Index        digest.Digest     `json:"index"`     // of the OCI index that the tag names
	Artifact     digest.Digest     `json:"artifact"`  // of the release artifact's manifest
	OCIImage     digest.Digest     `json:"oci_image"` // of the OCI image's manifest
	Release      string            `json:"release"`   // of the document
	Signed       bool              `json:"signed"`    // false: signatures were not looked at; see --signed
	Document     *release.Document `json:"document"`
	Kernels      []string          `json:"kernels"` // versions that the image holds
	FileCount    int               `json:"file_count"`
	PackageCount int               `json:"package_count"`
	Packages     []packageAnswer   `json:"packages,omitempty"` // with --packages
	Files        []fileAnswer      `json:"files,omitempty"`    // with --files
}

type packageAnswer struct {
	Name         string `json:"name"`
	Version      string `json:"version"`
	Architecture string `json:"architecture,omitempty"`
}

func newInspectCommand(g *globals) *cobra.Command {
	var o inspectOptions
	c := &cobra.Command{
		Use:     "inspect OUT|REPOSITORY[:TAG]",
		GroupID: "publish",
		Short:   "Show what a release holds",
		Long: `Show what a release holds: its digests and sizes, packages, kernel, users and
the version of the tree rules. OUT is a directory that "ashlar build" wrote,
REPOSITORY a place in a registry; where there are several releases, name one by
its tag. Everything shown was checked against the release document.

--packages and --files list instead of counting: packages from the software
list, files from the image itself.

Who signed a release is another question than what it holds. --signed shows what the
signatures alone prove: it takes REPOSITORY[:CHANNEL], verifies it from the root of
--root (or of this machine's image) on, and reads the packages, the lock's digest
and the builder's version from the signed release. Its exit codes 6, 7 and 8 are
those of "ashlar trust show".`,
		Example: `  ashlar inspect out/
  ashlar inspect --packages registry.example/acme/server:stable
  ashlar inspect --signed registry.example/acme/server:stable --root keys/root.json
  ashlar inspect --json out/ | jq -r .document.images[0].digest`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeLayouts(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.release = args[0]
			if o.signed {
				return runInspectSigned(c.Context(), o, g)
			}
			if o.root.file != "" {
				return &codeError{exitUsage, errors.New("--root is for --signed: nothing else here looks at signatures")}
			}
			return runInspect(c.Context(), o, g)
		},
	}
	c.Flags().BoolVar(&o.packages, "packages", false, "list the packages")
	c.Flags().BoolVar(&o.files, "files", false, "list the files, with what the image says of each")
	c.Flags().BoolVar(&o.signed, "signed", false, "show what the signatures prove, and nothing else")
	c.MarkFlagsMutuallyExclusive("signed", "files")
	o.root.register(c)
	return c
}

func runInspect(ctx context.Context, o inspectOptions, g *globals) error {
	p, err := openPublished(ctx, o.release)
	if err != nil {
		return err
	}
	a := inspectAnswer{
		Schema: 1, Repository: p.Repository().Name, Tag: p.tag, Index: p.Index.Digest, Artifact: p.Manifest.Digest,
		OCIImage: p.Image.Digest, Release: p.DocumentDigest, Document: p.Document,
		Kernels: kernels(p.tree), PackageCount: len(p.packages),
	}
	files := listFiles(p.tree)
	a.FileCount = len(files)
	if o.packages {
		a.Packages = describePackages(p.packages)
	}
	if o.files {
		a.Files = files
	}
	switch {
	case g.json:
		return g.printJSON(a)
	case o.packages || o.files:
		return printLists(g.stdout, a)
	}
	return printInspect(g.stdout, a)
}

// published is a release with what verbs look into.
type published struct {
	*registry.Release
	tag      string
	tree     *tree.Tree
	packages []compose.Package
}

// openPublished reads a release, its image and its software list. The streams
// are checked against the document at their ends, so all are read whole first.
func openPublished(ctx context.Context, ref string) (*published, error) {
	rel, tag, err := openRelease(ctx, ref)
	if err != nil {
		return nil, err
	}
	p := &published{Release: rel, tag: tag}
	image, err := readAll(ctx, rel.OpenEROFS)
	if err != nil {
		return nil, fmt.Errorf("reading the image of %s: %w", rel.Document.ID, err)
	}
	if p.tree, err = composefs.ReadBytes(image); err != nil {
		return nil, fmt.Errorf("reading the image of %s: %w", rel.Document.ID, err)
	}
	list, err := readAll(ctx, rel.OpenSBOM)
	if err != nil {
		return nil, fmt.Errorf("reading the software list of %s: %w", rel.Document.ID, err)
	}
	if p.packages, err = compose.ReadSBOM(list); err != nil {
		return nil, fmt.Errorf("%s: %w", rel.Document.ID, err)
	}
	return p, nil
}

func readAll(ctx context.Context, open func(context.Context) (io.ReadCloser, error)) ([]byte, error) {
	rc, err := open(ctx)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc) // ends where the document says
}

// kernels lists the versions of the kernels in t.
func kernels(t *tree.Tree) []string {
	versions := []string{}
	if modules := t.Lookup("/usr/lib/modules"); modules != nil {
		for _, n := range modules.Children {
			if n.Child("vmlinuz") != nil {
				versions = append(versions, n.Name)
			}
		}
	}
	return versions
}

func describePackages(packages []compose.Package) []packageAnswer {
	list := make([]packageAnswer, 0, len(packages))
	for _, p := range packages {
		list = append(list, packageAnswer(p))
	}
	return list
}

func printInspect(w io.Writer, a inspectAnswer) error {
	doc, t := a.Document, tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	root := doc.Root()
	row("release", "%s %s for %s, %s, from %s:%s", doc.Name, doc.Version, doc.Architecture, doc.Created, a.Repository, printable(a.Tag))
	row("document", "%s; who signed it: --signed", a.Release)
	row("image", "%s, %s", root.Digest, formatBytes(root.Size))
	row("files", "%d; %d objects, %s", a.FileCount, root.Objects, formatBytes(root.Bytes))
	row("packages", "%d", a.PackageCount)
	for _, version := range a.Kernels {
		row("kernel", "%s", printable(version))
	}
	if m := doc.Medium; m != nil {
		row("medium", "%s, %s in use", formatBytes(m.Size), formatBytes(m.Blocks.Size))
	}
	row("accounts", "%d users, %d groups", len(doc.Users), len(doc.Groups))
	row("rule-set", "%d, applied by %s", doc.RuleSet, doc.Builder)
	if doc.ReachableFrom != "" {
		row("updates from", "%s or newer", doc.ReachableFrom)
	}
	for _, f := range []struct {
		name string
		file release.File
	}{{"boot file", doc.UKI}, {"pack", doc.Pack}, {"pack index", doc.PackIndex}, {"software list", doc.SBOM}, {"lock", doc.Lock}} {
		row(f.name, "sha256:%s, %s", f.file.SHA256, formatBytes(f.file.Size))
	}
	row("OCI index", "%s", a.Index)
	row("OCI image", "%s", a.OCIImage)
	row("OCI artifact", "%s", a.Artifact)
	return t.Flush()
}

func printLists(w io.Writer, a inspectAnswer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range a.Packages {
		fmt.Fprintf(t, "%s\t%s\t%s\n", printable(p.Name), printable(p.Version), printable(p.Architecture))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, f := range a.Files {
		if _, err := fmt.Fprintln(w, f.line()); err != nil {
			return err
		}
	}
	return nil
}

// completeLayouts completes directories, for the first n arguments.
func completeLayouts(n int) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= n {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
}
