package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/registry"
)

type publishOptions struct {
	out, repository string
	channel         string
	allowOlder      bool
}

// publishAnswer is what --json prints.
type publishAnswer struct {
	Repository string `json:"repository"`
	Name       string `json:"name"`    // of the image
	Version    string `json:"version"` // of the release
	Tag        string `json:"tag"`     // of the version
	Digest     string `json:"digest"`  // of the OCI index under it
	Release    string `json:"release"` // digest of the release document
	Channel    string `json:"channel,omitempty"`
	Before     string `json:"before,omitempty"` // version that the channel named before
	Moved      bool   `json:"moved"`            // the channel named something else
	Copied     int    `json:"copied"`           // blobs sent
	Present    int    `json:"present"`          // blobs that were there
	Bytes      int64  `json:"bytes"`            // sent
}

func newPublishCommand(g *globals) *cobra.Command {
	var opts publishOptions
	c := &cobra.Command{
		Use:     "publish OUT[:TAG] REPOSITORY",
		GroupID: "publish",
		Short:   "Push a release to a registry and move a channel to it",
		Long: `Publish copies a release from OUT, an OCI layout directory as "ashlar build"
writes it, to REPOSITORY in an OCI registry, under the tag of its version; what
is there already is not sent again. With --channel that tag is moved to the
release last, so that machines see the old release or the whole new one.

REPOSITORY is HOST/PATH, or oci:DIR for a directory. Where OUT holds several
releases, name one by its tag. Credentials are those of "podman login" or
"docker login". Loopback addresses are reached by plain HTTP, all others by TLS
unless the name begins with http://.

Refused: a version that is published with other content, a channel of another
image, and a version older than the channel's unless --allow-older is given.`,
		Example: `  ashlar publish out/ registry.example/acme/server --channel stable
  ashlar publish out/:1.2.0 oci:/srv/releases --channel testing`,
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveFilterDirs
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			opts.out, opts.repository = args[0], args[1]
			return runPublish(c.Context(), opts, g)
		},
	}
	c.Flags().StringVar(&opts.channel, "channel", "", "move the channel `NAME` to the release")
	c.Flags().BoolVar(&opts.allowOlder, "allow-older", false, "also move the channel back to an older version")
	c.RegisterFlagCompletionFunc("channel", cobra.FixedCompletions([]string{"stable", "testing"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func runPublish(ctx context.Context, opts publishOptions, g *globals) error {
	from, tag, err := openRepository(opts.out)
	if err != nil {
		return err
	}
	to, toTag, err := openTarget(opts.repository)
	if err != nil {
		return err
	}
	if toTag != "" {
		return &codeError{exitUsage, fmt.Errorf("repository %q: leave %q out, and give it with --channel", opts.repository, toTag)}
	}
	plan, err := registry.PlanPublish(ctx, registry.PublishOptions{
		From: from, To: to, Tag: tag, Channel: opts.channel, AllowOlder: opts.allowOlder,
	})
	if err != nil {
		return err
	}
	result, err := plan.Apply(ctx, g.progress)
	if err != nil {
		return err
	}
	return g.printPublished(publishAnswer{
		Repository: to.Name,
		Name:       plan.Release.Document.Name,
		Version:    plan.Release.Document.Version,
		Tag:        plan.Version,
		Digest:     result.Descriptor.Digest.String(),
		Release:    plan.Release.DocumentDigest,
		Channel:    plan.Channel,
		Before:     plan.Before,
		Moved:      plan.Moves,
		Copied:     result.Blobs,
		Present:    result.Present,
		Bytes:      result.Bytes,
	})
}

func (g *globals) printPublished(a publishAnswer) error {
	if g.json {
		return g.printJSON(a)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "published %s %s to %s:%s\n", a.Name, a.Version, a.Repository, a.Tag)
	fmt.Fprintf(&b, "  index    %s\n  release  %s\n", a.Digest, a.Release)
	fmt.Fprintf(&b, "  sent     %d blobs, %d bytes; %d were there\n", a.Copied, a.Bytes, a.Present)
	switch {
	case a.Channel == "":
	case !a.Moved:
		fmt.Fprintf(&b, "  channel  %s names it already\n", a.Channel)
	case a.Before == "":
		fmt.Fprintf(&b, "  channel  %s is new, and names it\n", a.Channel)
	default:
		fmt.Fprintf(&b, "  channel  %s moved from %s\n", a.Channel, a.Before)
	}
	g.printf("%s", b.String())
	return nil
}
