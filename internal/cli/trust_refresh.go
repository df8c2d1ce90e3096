package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/registry"
	"github.com/ashlar-os/ashlar/internal/trust"
)

type refreshOptions struct {
	repository string
	force      bool
	renew      []string // roles
	signingOptions
}

// refreshAnswer is what `ashlar trust refresh --json` prints.
type refreshAnswer struct {
	Repository string       `json:"repository"`
	Refreshed  bool         `json:"refreshed"` // false: nothing had to be
	Soon       []string     `json:"soon"`      // sentences on what expires soon, and these keys were not asked to sign
	Signed     signedAnswer `json:"signed"`
}

func newTrustRefreshCommand(g *globals) *cobra.Command {
	var o refreshOptions
	c := &cobra.Command{
		Use:   "refresh REPOSITORY",
		Short: "Sign snapshot and timestamp anew, before they expire",
		Long: `Sign snapshot and timestamp of a repository anew, so that machines see that
nobody holds anything back. It needs only their two keys: for a timer, or for CI,
a directory with root.json, snapshot.key and timestamp.key is enough.

Nothing is done while both have more than half of their time left and there is no
new root to tell of; --force signs all the same. So it may run as often as you
like: once a day is good for signatures of 7 days.

--renew targets (or channels) signs those anew as well, which people do once a
year, and says so long before. A root is renewed by "ashlar keys rotate".`,
		Example: `  ashlar trust refresh registry.example/acme/server --keys online/
  ashlar trust refresh registry.example/acme/server --keys keys/ --renew targets --renew channels`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeLayouts(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.repository = args[0]
			return runTrustRefresh(c.Context(), o, g)
		},
	}
	c.Flags().BoolVar(&o.force, "force", false, "sign also what is good for long")
	c.Flags().StringArrayVar(&o.renew, "renew", nil, "sign the file of `ROLE` too: targets or channels")
	c.RegisterFlagCompletionFunc("renew", cobra.FixedCompletions([]string{trust.RoleTargets, trust.RoleChannels}, cobra.ShellCompDirectiveNoFileComp))
	o.register(c)
	return c
}

func runTrustRefresh(ctx context.Context, o refreshOptions, g *globals) error {
	for _, role := range o.renew {
		if role != trust.RoleTargets && role != trust.RoleChannels {
			return &codeError{exitUsage, fmt.Errorf("--renew %q: want targets or channels", role)}
		}
	}
	s, err := reopenSigned(ctx, o.repository, o.signingOptions)
	if err != nil {
		return err
	}
	if err := s.edit(func(e *trust.Editor) error { return e.Renew(o.renew...) }); err != nil {
		return err
	}
	a := refreshAnswer{Repository: s.repo.Name, Soon: []string{}, Signed: signedAnswer{Changes: []string{}}}
	due, err := s.due()
	if err != nil {
		return err
	}
	if due || o.force || len(o.renew) > 0 || o.in != "" {
		if a.Signed, err = s.finish(ctx, nil); err != nil {
			return err
		}
		a.Refreshed = a.Signed.Request == ""
	} else {
		a.Signed.Role, a.Signed.Until = firstToExpire(s.editor.View())
	}
	a.Soon = s.soon(o.renew)
	return g.printRefreshed(a)
}

// reopenSigned opens a repository that must be signed already.
func reopenSigned(ctx context.Context, name string, o signingOptions) (*signing, error) {
	repo, err := openUntagged(openRepository, name)
	if err != nil {
		return nil, err
	}
	s, err := openSigning(ctx, repo, o)
	if err == nil && s.before == nil {
		err = answered(ctx, fmt.Errorf("%s: %w", repo.Name, registry.ErrNoTrust))
	}
	return s, err
}

// due says whether there is anything to sign: half of the time of snapshot or
// timestamp is over, or the keyring has a root that the repository has not.
func (s *signing) due() (bool, error) {
	changes, err := s.editor.Changes()
	if err != nil || len(changes) > 0 {
		return true, err
	}
	e, err := readExpiry(s.keys.Dir())
	if err != nil {
		return false, err
	}
	good, view := e.effective().durations(), s.editor.View()
	left := func(role string) time.Duration { return view.Expires()[role].Sub(view.Time()) }
	return left(trust.RoleSnapshot) < good.Snapshot/2 || left(trust.RoleTimestamp) < good.Timestamp/2, nil
}

// early is how long before its end people are told of what they have to renew.
const early = 30 * 24 * time.Hour

// soon lists what expires soon and is not signed by a timer.
func (s *signing) soon(renewed []string) []string {
	lines, view := []string{}, s.editor.View()
	for _, file := range view.Signed() {
		cure := ""
		switch file.Role {
		case trust.RoleRoot:
			file, cure = s.keys.RootSigned(), "ashlar keys rotate"
		case trust.RoleTargets, trust.RoleChannels:
			cure = "ashlar trust refresh --renew " + file.Role
		}
		if cure == "" || slices.Contains(renewed, file.Role) || file.Expires.Sub(view.Time()) >= early {
			continue
		}
		lines = append(lines, fmt.Sprintf("%s %d expires on %s: %s", file.Role, file.Version, file.Expires.Format(time.DateOnly), cure))
	}
	return lines
}

func (g *globals) printRefreshed(a refreshAnswer) error {
	switch {
	case g.json:
		return g.printJSON(a)
	case a.Signed.Request != "":
		a.Signed.print(g)
	case !a.Refreshed:
		g.printf("nothing to do: %s is signed until %s, when the %s expires\n", a.Repository, a.Signed.Until.Format(time.DateOnly), a.Signed.Role)
	default:
		g.printf("refreshed %s\n", a.Repository)
		a.Signed.print(g)
	}
	for _, line := range a.Soon {
		g.printf("soon: %s\n", line)
	}
	return nil
}
