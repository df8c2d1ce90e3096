package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/registry"
	"github.com/ashlar-os/ashlar/internal/trust"
)

func newChannelCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "channel",
		GroupID: "publish",
		Short:   "Move channels among published releases, and take releases back",
		Long: `A channel names the release that its machines take. Moving one rebuilds nothing and
copies nothing: it is a signature, with the keys of channels, snapshot and timestamp.
Who has only those can choose among releases that the targets key signed.`,
		Example: `  ashlar channel promote registry.example/acme/server --from testing --to stable --keys keys/
  ashlar channel withdraw registry.example/acme/server 1.3.0 --reason CVE-2026-1234 --keys keys/`,
	}
	c.AddCommand(newChannelPromoteCommand(g), newChannelWithdrawCommand(g))
	return c
}

type promoteOptions struct {
	repository string
	from       string // a channel
	version    string // or a version
	to         string
	allowOlder bool
	signingOptions
}

// promoteAnswer is what `ashlar channel promote --json` prints.
type promoteAnswer struct {
	Repository string       `json:"repository"`
	Version    string       `json:"version"`
	Channel    string       `json:"channel"`
	Before     string       `json:"before,omitempty"` // version that the channel named before
	Moved      bool         `json:"moved"`            // false: it names the release already
	Signed     signedAnswer `json:"signed"`
}

func newChannelPromoteCommand(g *globals) *cobra.Command {
	var o promoteOptions
	c := &cobra.Command{
		Use:   "promote REPOSITORY",
		Short: "Let a channel name what another one names",
		Long: `Let the channel --to name the release that the channel --from names, or the one of
--version: the same release, to the byte, for the machines of another channel.

Refused: a release that was withdrawn, and one that is older than what the
channel names unless --allow-older is given.`,
		Example: `  ashlar channel promote registry.example/acme/server --from testing --to stable --keys keys/
  ashlar channel promote registry.example/acme/server --version 1.2.0 --to stable --keys keys/`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeLayouts(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.repository = args[0]
			return runChannelPromote(c.Context(), o, g)
		},
	}
	c.Flags().StringVar(&o.from, "from", "", "the channel `NAME` whose release it is")
	c.Flags().StringVar(&o.version, "version", "", "the release `VERSION`")
	c.Flags().StringVar(&o.to, "to", "", "the channel `NAME` that is moved")
	c.Flags().BoolVar(&o.allowOlder, "allow-older", false, "also move the channel back to an older version")
	c.MarkFlagRequired("to")
	c.MarkFlagsOneRequired("from", "version")
	c.MarkFlagsMutuallyExclusive("from", "version")
	o.register(c)
	completeChannels(c, "from")
	completeChannels(c, "to")
	return c
}

func runChannelPromote(ctx context.Context, o promoteOptions, g *globals) error {
	if err := checkChannel("to", o.to); err != nil {
		return err
	}
	s, err := reopenSigned(ctx, o.repository, o.signingOptions)
	if err != nil {
		return err
	}
	var r trust.Release
	if err := s.edit(func(e *trust.Editor) (err error) {
		if o.version != "" {
			r, err = e.Release(o.version)
		} else {
			r, err = e.Channel(o.from)
		}
		if err != nil {
			return err
		}
		return e.SetChannel(o.to, r.Version)
	}); err != nil {
		return err
	}
	a := promoteAnswer{
		Repository: s.repo.Name, Version: r.Version, Channel: o.to, Before: s.channelBefore(o.to),
		Signed: signedAnswer{Changes: []string{}},
	}
	if a.Moved = a.Before != r.Version; !a.Moved {
		a.Signed.Role, a.Signed.Until = firstToExpire(s.editor.View())
		return g.printPromoted(a)
	}
	if err := newerThan(r.Version, a.Before, o.to, o.allowOlder); err != nil {
		return err
	}
	if a.Signed, err = s.finish(ctx, func() error { return moveTag(ctx, s.repo, r, o.to) }); err != nil {
		return err
	}
	return g.printPromoted(a)
}

// moveTag moves the tag of a channel, which is for container tools. The version's
// tag must still name what was signed; a copy may have left it out.
func moveTag(ctx context.Context, repo *registry.Repository, r trust.Release, channel string) error {
	rel, err := repo.ReadRelease(ctx, release.Tag(r.Version))
	if errors.Is(err, registry.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if rel.Manifest.Digest != r.Artifact {
		return &lie{fmt.Errorf("the tag %q of %s names the artifact %s, and %s is signed: somebody moved it", release.Tag(r.Version), repo.Name, rel.Manifest.Digest, r.Artifact)}
	}
	return repo.Tag(ctx, rel.Index, channel)
}

func (g *globals) printPromoted(a promoteAnswer) error {
	switch {
	case g.json:
		return g.printJSON(a)
	case a.Signed.Request != "":
	case !a.Moved:
		g.printf("channel %s of %s names %s already\n", a.Channel, a.Repository, a.Version)
		return nil
	case a.Before == "":
		g.printf("channel %s of %s is new, and names %s\n", a.Channel, a.Repository, a.Version)
	default:
		g.printf("channel %s of %s moved from %s to %s\n", a.Channel, a.Repository, a.Before, a.Version)
	}
	a.Signed.print(g)
	return nil
}

type withdrawOptions struct {
	repository, version string
	reason              string
	undo                bool
	signingOptions
}

// withdrawAnswer is what `ashlar channel withdraw --json` prints.
type withdrawAnswer struct {
	Repository string       `json:"repository"`
	Version    string       `json:"version"`
	Withdrawn  bool         `json:"withdrawn"` // false: it was taken back with --undo
	Reason     string       `json:"reason,omitempty"`
	Channels   []string     `json:"channels"` // that name it
	Signed     signedAnswer `json:"signed"`
}

func newChannelWithdrawCommand(g *globals) *cobra.Command {
	var o withdrawOptions
	c := &cobra.Command{
		Use:   "withdraw REPOSITORY VERSION",
		Short: "Take a release back from all machines",
		Long: `Say that nobody should take a release any more, and why. Machines that have it
are told and offered the way back; others never take it. Where it is staged and has
not booted, it does not boot any more.

Channels that name it go on doing so, and their machines stay where they are, until
"channel promote" or the next release moves them. --undo takes the withdrawal back.`,
		Example: `  ashlar channel withdraw registry.example/acme/server 1.3.0 --reason CVE-2026-1234 --keys keys/
  ashlar channel withdraw registry.example/acme/server 1.3.0 --undo --keys keys/`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeLayouts(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.repository, o.version = args[0], args[1]
			return runChannelWithdraw(c.Context(), o, g)
		},
	}
	c.Flags().StringVar(&o.reason, "reason", "", "what its machines are told: one line of `TEXT`")
	c.Flags().BoolVar(&o.undo, "undo", false, "take the withdrawal back")
	c.MarkFlagsOneRequired("reason", "undo")
	c.MarkFlagsMutuallyExclusive("reason", "undo")
	o.register(c)
	return c
}

func runChannelWithdraw(ctx context.Context, o withdrawOptions, g *globals) error {
	s, err := reopenSigned(ctx, o.repository, o.signingOptions)
	if err != nil {
		return err
	}
	if err := s.edit(func(e *trust.Editor) error {
		r, err := e.Release(o.version)
		switch {
		case err != nil:
			return err
		case o.undo && r.Withdrawn == nil && o.in != "":
			return nil // as the request says
		case o.undo:
			return e.Reinstate(o.version)
		case r.Withdrawn != nil && r.Withdrawn.Reason == o.reason:
			return nil
		}
		return e.Withdraw(o.version, o.reason)
	}); err != nil {
		return err
	}
	a := withdrawAnswer{Repository: s.repo.Name, Version: o.version, Withdrawn: !o.undo, Reason: o.reason, Channels: []string{}}
	of, err := s.editor.View().Of(s.editor.Image())
	if err != nil {
		return err
	}
	channels := of.Channels()
	for _, channel := range slices.Sorted(maps.Keys(channels)) {
		if channels[channel] == o.version {
			a.Channels = append(a.Channels, channel)
		}
	}
	if a.Signed, err = s.finish(ctx, nil); err != nil {
		return err
	}
	return g.printWithdrawn(a)
}

func (g *globals) printWithdrawn(a withdrawAnswer) error {
	if g.json {
		return g.printJSON(a)
	}
	switch {
	case a.Signed.Request != "":
	case !a.Withdrawn:
		g.printf("release %s of %s is no longer withdrawn\n", a.Version, a.Repository)
	default:
		g.printf("release %s of %s is withdrawn: %s\n", a.Version, a.Repository, a.Reason)
		if len(a.Channels) > 0 {
			g.printf("  its machines wait until ashlar channel promote moves %s\n", strings.Join(a.Channels, ", "))
		}
	}
	a.Signed.print(g)
	return nil
}
