package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/machine/update"
	"github.com/ashlar-os/ashlar/internal/registry"
	"github.com/ashlar-os/ashlar/internal/trust"
)

func newTrustCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "trust",
		GroupID: "publish",
		Short:   "What a repository's signatures say, and keeping them fresh",
		Long: `A repository holds, beside its releases, who signed what and until when that is
good. "trust show" tells; "trust refresh" signs anew what would expire.`,
		Example: `  ashlar trust show registry.example/acme/server
  ashlar trust refresh registry.example/acme/server --keys online/`,
	}
	c.AddCommand(newTrustShowCommand(g), newTrustRefreshCommand(g))
	return c
}

// rootOptions say which root a person believes.
type rootOptions struct{ file string }

func (o *rootOptions) register(c *cobra.Command) {
	c.Flags().StringVar(&o.file, "root", "", "believe the keys of `FILE`, the publisher's root.json")
	c.MarkFlagFilename("root", "json")
}

// anchor is the root where believing begins.
type anchor struct {
	From   string        `json:"from"` // "file", "image" (of this machine), or "repository": its own word
	Path   string        `json:"path,omitempty"`
	Digest digest.Digest `json:"digest"` // sha256 of the file

	data []byte
}

// proven says whether anybody but the repository vouches for it.
func (a anchor) proven() bool { return a.From != anchorRepository }

const (
	anchorFile       = "file"
	anchorImage      = "image"
	anchorRepository = "repository"
)

// find reads the root to begin with: the one that was given, or this machine's,
// or else the repository's own.
func (o rootOptions) find(ctx context.Context, source trust.Source) (a anchor, err error) {
	a = anchor{From: anchorFile, Path: o.file}
	if o.file == "" {
		a = anchor{From: anchorImage, Path: filepath.Join(machineRoot(), update.RootPath)}
	}
	a.data, err = readRoot(a.Path)
	if o.file == "" && errors.Is(err, fs.ErrNotExist) {
		a = anchor{From: anchorRepository}
		if a.data, err = source.File(ctx, trust.FileName(trust.RoleRoot, 1), update.MaxRoot); err != nil {
			err = answered(ctx, err)
		}
	}
	a.Digest = digest.FromBytes(a.data)
	return a, err
}

// lookAt verifies what a repository says, but for its time.
func lookAt(ctx context.Context, source trust.Source, o rootOptions) (anchor, *trust.View, error) {
	from, err := o.find(ctx, source)
	if err != nil {
		return from, nil, err
	}
	view, err := (&trust.Client{Root: from.data}).Look(ctx, &asked{ctx, source})
	if errors.Is(err, trust.ErrUntrusted) && o.file == "" && from.From == anchorImage {
		err = &hintError{err, fmt.Sprintf("it was compared with the keys of this machine, %q; --root FILE names others", from.Path)}
	}
	return from, view, err
}

// asked sorts the errors of a source.
type asked struct {
	ctx context.Context
	trust.Source
}

func (a *asked) File(ctx context.Context, name string, limit int64) ([]byte, error) {
	b, err := a.Source.File(ctx, name, limit)
	return b, answered(a.ctx, err)
}

// trustAnswer is what `ashlar trust show --json` prints.
type trustAnswer struct {
	Schema     int           `json:"schema"`
	Repository string        `json:"repository"`
	Images     []imageAnswer `json:"images"`
	Roles      []roleAnswer  `json:"roles"`
	Root       anchor        `json:"root"`   // where believing begins
	Proven     bool          `json:"proven"` // false: the repository's own root, on its own word
	Roots      []roleAnswer  `json:"roots"`  // from that one to the newest, each with who signed it of the holders before
	SignedAt   time.Time     `json:"signed_at"`
	Stale      string        `json:"stale,omitempty"` // a sentence
}

// imageAnswer is what a repository says of one image.
type imageAnswer struct {
	trust.Target
	Channels map[string]string `json:"channels"`
	Releases []trust.Release   `json:"releases"`
}

// roleAnswer is a signed file.
type roleAnswer struct {
	trust.Signed
	Names []string `json:"names"` // of the signers, in their order: "holder 2" of the root keys
}

type trustShowOptions struct {
	repository string
	rootOptions
}

func newTrustShowCommand(g *globals) *cobra.Command {
	var o trustShowOptions
	c := &cobra.Command{
		Use:   "show REPOSITORY|OUT",
		Short: "Show who signed what, until when, and why it is believed",
		Long: `Verify all that is signed in a repository, as a machine does, and show it:
channels, releases and what was withdrawn; who signed each part and until when
that is good; and the chain of roots by which it is believed.

The chain begins at the root of --root, or at that of this machine's image.
Without either it begins at the repository's own first root, and it is said that
nobody vouches for that. Holders of root keys are counted in the order in which
the roots name them.

Exit code 6 says that the repository cannot be reached, 7 that its signatures
are past their time (they are shown all the same), 8 that it cannot be trusted.`,
		Example: `  ashlar trust show registry.example/acme/server --root keys/root.json
  ashlar trust show --json oci:/srv/releases | jq .roles`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeLayouts(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.repository = args[0]
			return runTrustShow(c.Context(), o, g)
		},
	}
	o.register(c)
	return c
}

func runTrustShow(ctx context.Context, o trustShowOptions, g *globals) error {
	repo, err := openUntagged(openRepository, o.repository)
	if err != nil {
		return err
	}
	source, err := repo.ReadTrust(ctx)
	if err != nil {
		return answered(ctx, err)
	}
	from, view, err := lookAt(ctx, source, o.rootOptions)
	if err != nil {
		return fmt.Errorf("cannot trust %s: %w", repo.Name, err)
	}
	a, err := describeTrust(repo, from, view)
	if err != nil {
		return err
	}
	if g.json {
		err = g.printJSON(a)
	} else {
		err = a.print(g)
	}
	return errors.Join(err, view.Stale())
}

func describeTrust(repo *registry.Repository, from anchor, view *trust.View) (a trustAnswer, err error) {
	a = trustAnswer{
		Schema: 1, Repository: repo.Name, Images: []imageAnswer{}, Root: from, Proven: from.proven(), SignedAt: view.SignedAt(),
	}
	for _, image := range view.Images() {
		of, err := view.Of(image)
		if err != nil {
			return a, err
		}
		a.Images = append(a.Images, imageAnswer{image, of.Channels(), of.Releases()})
	}
	roots, err := view.Roots(from.data)
	if err != nil {
		return a, err
	}
	var holders []string // all there ever were
	for _, root := range roots {
		for _, id := range root.Keys {
			if !slices.Contains(holders, id) {
				holders = append(holders, id)
			}
		}
	}
	named := func(s trust.Signed) roleAnswer {
		r := roleAnswer{s, []string{}}
		for _, id := range s.Signers {
			name := "its key"
			if s.Role == trust.RoleRoot {
				name = fmt.Sprintf("holder %d", slices.Index(holders, id)+1)
			}
			r.Names = append(r.Names, name)
		}
		return r
	}
	for _, root := range roots {
		a.Roots = append(a.Roots, named(root))
	}
	for _, role := range view.Signed() {
		a.Roles = append(a.Roles, named(role))
	}
	if err := view.Stale(); err != nil {
		a.Stale = err.Error()
	}
	return a, nil
}

func (a trustAnswer) print(g *globals) error {
	t := tabwriter.NewWriter(g.stdout, 0, 0, 2, ' ', 0)
	for _, image := range a.Images {
		fmt.Fprintf(t, "image\t%s\n", image.Target)
		for _, channel := range slices.Sorted(maps.Keys(image.Channels)) {
			fmt.Fprintf(t, "channel\t%s names %s\n", channel, image.Channels[channel])
		}
		for _, r := range image.Releases {
			if w := r.Withdrawn; w != nil {
				fmt.Fprintf(t, "withdrawn\t%s on %s: %s\n", r.Version, w.At.Format(time.DateOnly), w.Reason)
				continue
			}
			fmt.Fprintf(t, "release\t%s, document %s\n", r.Version, r.DocumentDigest)
		}
	}
	for _, role := range a.Roles {
		fmt.Fprintf(t, "%s\t%d, until %s, signed by %s\n", role.Role, role.Version, role.Expires.Format(time.DateOnly), role.by())
	}
	for i, root := range a.Roots {
		switch {
		case i > 0:
			fmt.Fprintf(t, "believed\troot %d, because %s of root %d signed it\n", root.Version, root.by(), root.Version-1)
		case a.Root.From == anchorRepository:
			fmt.Fprintf(t, "NOT PROVEN\troot %d, the repository's own (%s): compare it with the publisher's, or give --root\n", root.Version, a.Root.Digest)
		case a.Root.From == anchorImage:
			fmt.Fprintf(t, "believed\troot %d, because it is in this machine's image\n", root.Version)
		default:
			fmt.Fprintf(t, "believed\troot %d, because it is %s\n", root.Version, a.Root.Path)
		}
	}
	return t.Flush()
}

// by names the signers.
func (r roleAnswer) by() string {
	var words []string
	for i, id := range r.Signers {
		words = append(words, fmt.Sprintf("%s (%.12s)", r.Names[i], id))
	}
	text := strings.Join(words, ", ")
	if r.Role == trust.RoleRoot && len(r.Keys) > 1 {
		text += fmt.Sprintf("; %d of %d must", r.Threshold, len(r.Keys))
	}
	return text
}

// completeChannels completes a flag with the names that channels usually have.
func completeChannels(c *cobra.Command, flag string) {
	c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions([]string{"stable", "testing"}, cobra.ShellCompDirectiveNoFileComp))
}
