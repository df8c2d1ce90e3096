package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/update"
	"github.com/ashlar-os/ashlar/internal/registry"
	"github.com/ashlar-os/ashlar/internal/trust"
)

type publishOptions struct {
	release, repository string
	channel             string
	allowOlder          bool
	signingOptions
}

// publishAnswer is what --json prints.
type publishAnswer struct {
	Repository string       `json:"repository"`
	Name       string       `json:"name,omitempty"`    // of the image
	Version    string       `json:"version,omitempty"` // of the release; none for a copy of a signed repository
	Tag        string       `json:"tag,omitempty"`     // of the version
	Digest     string       `json:"digest,omitempty"`  // of the OCI index under it
	Release    string       `json:"release,omitempty"` // digest of the release document
	Channel    string       `json:"channel,omitempty"`
	Before     string       `json:"before,omitempty"` // version that the channel named before
	Moved      bool         `json:"moved"`            // the channel named something else
	Rootless   bool         `json:"rootless"`         // the image knows no keys: its machines take no updates
	Copied     int          `json:"copied"`           // blobs sent
	Present    int          `json:"present"`          // blobs that were there
	Bytes      int64        `json:"bytes"`            // sent
	Signed     signedAnswer `json:"signed"`
}

func newPublishCommand(g *globals) *cobra.Command {
	var opts publishOptions
	c := &cobra.Command{
		Use:     "publish OUT[:TAG] REPOSITORY",
		GroupID: "publish",
		Short:   "Sign a release, push it to a registry and move a channel to it",
		Long: `Publish copies a release from OUT, an OCI layout directory as "ashlar build"
writes it, to REPOSITORY in an OCI registry, under the tag of its version; what
is there already is not sent again. It signs the release with the keys of --keys,
lets the channel name it, and puts the signatures there last: machines see the
old state or the whole new one. The first release begins the repository's trust.

REPOSITORY is HOST/PATH, or oci:DIR for a directory. Where OUT holds several
releases, name one by its tag. Credentials are those of "podman login" or
"docker login". Loopback addresses are reached by plain HTTP, all others by TLS
unless the name begins with http://.

Nothing is published that is not signed. Without --keys an OUT that is a signed
repository is copied as a whole, signatures included, as skopeo would.

Needed are the keys of targets, channels, snapshot and timestamp. Where some are
elsewhere, --out writes a request for their signatures, "ashlar keys sign" signs
it, and the same command with --in goes on.

Refused: a version that is published with other content, another image, an image
that believes other keys, and a version older than the channel's unless
--allow-older is given.`,
		Example: `  ashlar publish out/ registry.example/acme/server --channel stable --keys keys/
  ashlar publish out/ registry.example/acme/server --channel stable --keys online/ --out ask.json
  ashlar publish out/ registry.example/acme/server --channel stable --keys online/ --in ask.json
  ashlar publish oci:/srv/releases mirror.example/acme/server`,
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveFilterDirs
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			opts.release, opts.repository = args[0], args[1]
			return runPublish(c.Context(), opts, g)
		},
	}
	c.Flags().StringVar(&opts.channel, "channel", "", "let the channel `NAME` name the release")
	c.Flags().BoolVar(&opts.allowOlder, "allow-older", false, "also move the channel back to an older version")
	opts.register(c)
	completeChannels(c, "channel")
	return c
}

func runPublish(ctx context.Context, opts publishOptions, g *globals) error {
	from, tag, err := openRepository(opts.release)
	if err != nil {
		return err
	}
	if opts.keys == "" {
		return copySigned(ctx, opts, g, from)
	}
	if opts.channel != "" {
		if err := checkChannel("channel", opts.channel); err != nil {
			return err
		}
	}
	to, err := openUntagged(openTarget, opts.repository)
	if err != nil {
		return err
	}
	plan, err := registry.PlanPublish(ctx, registry.PublishOptions{From: from, To: to, Tag: tag})
	if err != nil {
		return err
	}
	s, err := openSigning(ctx, to, opts.signingOptions)
	if err != nil {
		return err
	}
	doc := plan.Release.Document
	a := publishAnswer{
		Repository: to.Name, Name: doc.Name, Version: doc.Version, Tag: plan.Version,
		Digest: plan.Release.Index.Digest.String(), Release: plan.Release.DocumentDigest, Channel: opts.channel,
	}
	if a.Rootless, err = believesOthers(ctx, plan.Release, s.keys); err != nil {
		return err
	}
	if err := s.edit(func(e *trust.Editor) error {
		if err := e.AddRelease(plan.Release.DocumentBytes, plan.Release.Manifest.Digest); err != nil || opts.channel == "" {
			return err
		}
		return e.SetChannel(opts.channel, doc.Version)
	}); err != nil {
		return err
	}
	if opts.channel != "" {
		a.Before = s.channelBefore(opts.channel)
		a.Moved = a.Before != doc.Version
		if err := newerThan(doc.Version, a.Before, opts.channel, opts.allowOlder); err != nil {
			return err
		}
	}
	a.Signed, err = s.finish(ctx, func() error {
		result, err := plan.Apply(ctx, g.progress)
		a.Copied, a.Present, a.Bytes = result.Blobs, result.Present, result.Bytes
		if err != nil || opts.channel == "" {
			return err
		}
		return to.Tag(ctx, result.Descriptor, opts.channel) // for container tools; machines do not look
	})
	if err != nil {
		return err
	}
	return g.printPublished(a)
}

// copySigned copies a repository that is signed already.
func copySigned(ctx context.Context, opts publishOptions, g *globals, from *registry.Repository) error {
	source, err := from.ReadTrust(ctx)
	if errors.Is(err, registry.ErrNoTrust) {
		return &codeError{exitUsage, &hintError{
			fmt.Errorf("%s is not signed, and nothing is published unsigned", from.Name),
			"--keys DIR signs it; ashlar keys init DIR makes keys",
		}}
	}
	if err != nil {
		return answered(ctx, err)
	}
	if opts.channel != "" || opts.out != "" || opts.in != "" {
		return &codeError{exitUsage, errors.New("--channel, --out and --in need --keys: what a signed repository says is copied as it is")}
	}
	_, view, err := lookAt(ctx, source, rootOptions{})
	if err != nil {
		return err
	}
	to, err := openUntagged(openTarget, opts.repository)
	if err != nil {
		return err
	}
	result, err := registry.CopySigned(ctx, from, to, g.progress)
	if err != nil {
		return err
	}
	a := publishAnswer{
		Repository: to.Name, Copied: result.Blobs, Present: result.Present, Bytes: result.Bytes,
		Signed: signedAnswer{Changes: []string{}},
	}
	a.Signed.Role, a.Signed.Until = firstToExpire(view)
	return g.printPublished(a)
}

// openUntagged opens a repository that must be named without a tag.
func openUntagged(open func(string) (*registry.Repository, string, error), ref string) (*registry.Repository, error) {
	repo, tag, err := open(ref)
	if err == nil && tag != "" {
		err = &codeError{exitUsage, fmt.Errorf("repository %q: leave %q out; channels and versions are named by themselves", ref, tag)}
	}
	return repo, err
}

// checkChannel refuses what cannot be a channel, given by a flag.
func checkChannel(flag, name string) error {
	err := release.CheckChannel(name)
	if err == nil && name == registry.TagTrust {
		err = fmt.Errorf("the tag %q holds the repository's signatures", name)
	}
	if err != nil {
		return &codeError{exitUsage, fmt.Errorf("--%s: %w", flag, err)}
	}
	return nil
}

// channelBefore is the version that a channel names now, or "".
func (s *signing) channelBefore(channel string) string {
	view := s.editor.View()
	if view == nil {
		return ""
	}
	of, err := view.Of(s.editor.Image())
	if err != nil {
		return ""
	}
	return of.Channels()[channel]
}

// newerThan refuses to take a channel back by mistake.
func newerThan(version, before, channel string, allowOlder bool) error {
	if before == "" || allowOlder || release.CompareVersions(version, before) >= 0 {
		return nil
	}
	return &hintError{
		fmt.Errorf("version %s is older than %s, which channel %q names now", version, before, channel),
		"--allow-older moves it all the same",
	}
}

// believesOthers refuses an image that believes other keys than ours: its
// machines would take no updates from where it is published. Without any keys at
// all (true) they take none from anywhere.
func believesOthers(ctx context.Context, rel *registry.Release, keys *trust.Keyring) (bool, error) {
	b, err := readAll(ctx, rel.OpenEROFS)
	if err != nil {
		return false, fmt.Errorf("reading the image of %s: %w", rel.Document.ID, err)
	}
	image, err := composefs.ReadBytes(b)
	if err != nil {
		return false, fmt.Errorf("reading the image of %s: %w", rel.Document.ID, err)
	}
	n := image.Lookup(update.RootPath)
	if n == nil {
		return true, nil
	}
	n = n.Inode()
	for _, root := range keys.Roots() {
		if !n.Digest.IsZero() && n.Digest == verity.SumBytes(root) || n.Digest.IsZero() && bytes.Equal(n.Inline, root) {
			return false, nil
		}
	}
	return false, &hintError{
		fmt.Errorf("the machines of %s would take no updates from here: the %q in its image is none of the roots of %q", rel.Document.ID, update.RootPath, keys.Dir()),
		fmt.Sprintf("build it with the root.json of %q as [trust] root, or sign with the keys that it believes", keys.Dir()),
	}
}

func (g *globals) printPublished(a publishAnswer) error {
	switch {
	case g.json:
		return g.printJSON(a)
	case a.Signed.Request != "":
		a.Signed.print(g)
		return nil
	case a.Version == "":
		g.printf("copied a signed repository to %s\n", a.Repository)
	default:
		g.printf("published %s %s to %s:%s\n", a.Name, a.Version, a.Repository, a.Tag)
		g.printf("  index    %s\n  release  %s\n", a.Digest, a.Release)
	}
	g.printf("  sent     %d blobs, %d bytes; %d were there\n", a.Copied, a.Bytes, a.Present)
	switch {
	case a.Channel == "":
	case !a.Moved:
		g.printf("  channel  %s names it already\n", a.Channel)
	case a.Before == "":
		g.printf("  channel  %s is new, and names it\n", a.Channel)
	default:
		g.printf("  channel  %s moved from %s\n", a.Channel, a.Before)
	}
	a.Signed.print(g)
	if a.Rootless {
		g.printf("  updates  none for its machines: the image knows no keys; see [trust] root in docs/recipe.md\n")
	}
	return nil
}
