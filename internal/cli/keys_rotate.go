package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/trust"
)

// rotateOptions are those of `keys rotate` and `keys revoke`.
type rotateOptions struct {
	what         []string // roles, names of root keys' files, or ids
	revoke       bool     // holders go, and nobody comes for them
	add          int      // holders
	threshold    int      // 0: as it is
	repositories []string
	drop         []string // versions that are not signed again
	keys         string
	out          string
	in           []string
	passphrase   passphraseOptions
}

// rotateAnswer is what `ashlar keys rotate --json` and `ashlar keys revoke --json` print.
type rotateAnswer struct {
	Root         int64           `json:"root"`    // number of the newest now
	Changes      []string        `json:"changes"` // of the root, in sentences
	Request      string          `json:"request,omitempty"`
	Missing      []string        `json:"missing"` // who has to sign the request
	Repositories []rotatedAnswer `json:"repositories"`
}

// rotatedAnswer is a repository that was signed with the keys as they are now.
type rotatedAnswer struct {
	Repository string       `json:"repository"`
	Releases   []string     `json:"releases"` // versions that are signed in it
	Signed     signedAnswer `json:"signed"`
}

func newKeysRotateCommand(g *globals) *cobra.Command {
	var o rotateOptions
	c := &cobra.Command{
		Use:   "rotate [KEY...]",
		Short: "Put new keys in the place of old ones",
		Long: `Make new keys for those that are named, and a new root that says so, signed by a
threshold of the holders. KEY is targets, channels, snapshot or timestamp, a root key
by its file (root-2), or the beginning of a key's id. Without any, the root is only
renewed, for another period.

What the old keys signed is worth nothing to machines that have seen the new root, and
they follow it by themselves. It reaches them by each --repository that is named, which
is signed anew at once, or later by "ashlar trust refresh". After the theft of a targets
key look at the releases that are printed: --drop signs a version no more.

Where holders are elsewhere, --out writes a request for their signatures; when "ashlar
keys sign" was used on it, or on a copy by each holder, --in takes it. The channels key
is named by each repository and not by the root: it needs --repository.`,
		Example: `  ashlar keys rotate targets --keys keys/ --repository registry.example/acme/server
  ashlar keys rotate root-2 --keys keys/ --out root-request.json
  ashlar keys rotate --keys keys/ --in root-request.json`,
		ValidArgsFunction: completeKeys,
		RunE: func(c *cobra.Command, args []string) error {
			o.what = args
			return runKeysRotate(c.Context(), o, g)
		},
	}
	o.register(c)
	c.Flags().IntVar(&o.add, "add-holders", 0, "make root keys for `NUMBER` more holders")
	return c
}

func newKeysRevokeCommand(g *globals) *cobra.Command {
	o := rotateOptions{revoke: true}
	c := &cobra.Command{
		Use:   "revoke KEY...",
		Short: "Take root keys from their holders",
		Long: `Make a new root without the root keys that are named, signed by a threshold of the
holders: KEY is the file (root-2) or the beginning of a key's id. As many must stay as
have to sign; --threshold changes how many that is.

A role has to have a key, so that of targets, channels, snapshot or timestamp is
revoked by giving it another one: "ashlar keys rotate".`,
		Example: `  ashlar keys revoke root-2 --keys keys/ --repository registry.example/acme/server
  ashlar keys revoke root-2 root-3 --threshold 1 --keys keys/ --out root-request.json`,
		Args: func(c *cobra.Command, args []string) error {
			if in, err := c.Flags().GetStringArray("in"); err == nil && len(in) > 0 {
				return nil
			}
			return cobra.MinimumNArgs(1)(c, args)
		},
		ValidArgsFunction: completeKeys,
		RunE: func(c *cobra.Command, args []string) error {
			o.what = args
			return runKeysRotate(c.Context(), o, g)
		},
	}
	o.register(c)
	return c
}

func (o *rotateOptions) register(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&o.keys, "keys", "", "the keys are in `DIR`")
	flags.IntVar(&o.threshold, "threshold", 0, "`NUMBER` of holders that must sign a root from now on")
	flags.StringArrayVar(&o.repositories, "repository", nil, "sign `REPOSITORY` anew at once")
	flags.StringArrayVar(&o.drop, "drop", nil, "do not sign the release `VERSION` again")
	flags.StringVar(&o.out, "out", "", "write to `FILE` what holders of other keys have to sign")
	flags.StringArrayVar(&o.in, "in", nil, "take the signatures of `FILE`, which --out wrote and \"ashlar keys sign\" signed")
	o.passphrase.register(flags)
	c.MarkFlagRequired("keys")
	c.MarkFlagDirname("keys")
	c.MarkFlagFilename("out", "json")
	c.MarkFlagFilename("in", "json")
	c.MarkFlagsMutuallyExclusive("out", "in")
}

// completeKeys completes with the roles that have a key each.
func completeKeys(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{trust.RoleTargets, trust.RoleChannels, trust.RoleSnapshot, trust.RoleTimestamp}, cobra.ShellCompDirectiveNoFileComp
}

func runKeysRotate(ctx context.Context, o rotateOptions, g *globals) error {
	if err := o.check(); err != nil {
		return &codeError{exitUsage, err}
	}
	keys, err := openKeys(o.keys, o.passphrase)
	if err != nil {
		return err
	}
	a := rotateAnswer{Changes: []string{}, Missing: []string{}, Repositories: []rotatedAnswer{}}
	switch {
	case len(o.in) > 0:
		err = o.takeRoot(keys)
	case o.ofRoot():
		err = o.changeRoot(ctx, keys, &a)
	}
	if err != nil {
		return err
	}
	a.Root = keys.RootSigned().Version
	if a.Request == "" {
		for _, name := range o.repositories {
			r, err := o.signAnew(ctx, keys, name)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			a.Repositories = append(a.Repositories, r)
		}
	}
	return g.printRotated(a)
}

// check refuses words that do not go together.
func (o *rotateOptions) check() error {
	channels := slices.Contains(o.what, trust.RoleChannels)
	switch {
	case len(o.in) > 0 && (len(o.what) > 0 || o.add != 0 || o.threshold != 0):
		return errors.New("--in takes a root as it was asked for: leave the rest out")
	case o.revoke && slices.ContainsFunc(o.what, isRole):
		return &hintError{errors.New("a role has to have a key"), "ashlar keys rotate makes a new one, and revokes the old"}
	case channels && o.out != "":
		return errors.New("the channels key is named by the targets key, here, and not by a root: --out has nothing to ask for")
	case channels && len(o.repositories) == 0:
		return errors.New("each repository names its channels key: say which ones with --repository")
	case len(o.drop) > 0 && len(o.repositories) != 1:
		return errors.New("--drop needs one --repository")
	case o.add < 0 || o.threshold < 0:
		return errors.New("a number of holders cannot be negative")
	}
	return nil
}

func isRole(word string) bool { return word != trust.RoleRoot && slices.Contains(trust.Roles(), word) }

// ofRoot says whether the root changes, and not only the channels key or what is
// signed in a repository.
func (o *rotateOptions) ofRoot() bool {
	others := slices.DeleteFunc(slices.Clone(o.what), func(word string) bool { return word == trust.RoleChannels })
	return len(others) > 0 || o.add > 0 || o.threshold > 0 || len(o.what) == 0 && len(o.drop) == 0
}

// changeRoot makes the next root, or a request for it.
func (o *rotateOptions) changeRoot(ctx context.Context, keys *trust.Keyring, a *rotateAnswer) error {
	var revoked []string
	for _, word := range o.what {
		if isRole(word) {
			continue
		}
		key, err := keys.Find(word)
		if err != nil {
			return err
		}
		if key.Role != trust.RoleRoot {
			return fmt.Errorf("%q is a key of %s: ashlar keys rotate %[2]s replaces it", word, key.Role)
		}
		revoked = append(revoked, key.ID)
	}
	// Before any new key is made: somebody who can sign must be here.
	if err := o.openHolders(ctx, keys); err != nil {
		return err
	}
	e, err := readExpiry(o.keys)
	if err != nil {
		return err
	}
	change, err := keys.ChangeRoot(trust.RootOptions{Expiry: e.durations()})
	if err != nil {
		return err
	}
	if err := o.apply(change, revoked); err != nil {
		return err
	}
	a.Changes = change.Changes()
	if err := change.Sign(ctx); err != nil {
		return err
	}
	if o.out == "" {
		return change.Commit()
	}
	request, err := change.Request()
	if err != nil {
		return err
	}
	a.Request, a.Missing = o.out, append(a.Missing, change.Missing()...)
	return writeRequest(o.out, request)
}

// openHolders opens as many root keys as have to sign. Fewer are enough for a
// request.
func (o *rotateOptions) openHolders(ctx context.Context, keys *trust.Keyring) error {
	root := keys.RootSigned()
	here := slices.DeleteFunc(slices.Clone(root.Keys), func(id string) bool { return !keys.Has(id) })
	if len(here) < root.Threshold && o.out == "" {
		return &hintError{
			fmt.Errorf("root %d must be signed by %d of %d holders, and %q has the keys of %d", root.Version+1, root.Threshold, len(root.Keys), o.keys, len(here)),
			"--out FILE writes a request, which the others sign with \"ashlar keys sign\"",
		}
	}
	for _, id := range here[:min(len(here), root.Threshold)] {
		if _, err := keys.Signer(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// apply makes the changes. Holders come before others go, and the threshold is
// set when all are there or before they go.
func (o *rotateOptions) apply(change *trust.RootChange, holders []string) error {
	for _, word := range o.what {
		if isRole(word) && word != trust.RoleChannels {
			if err := change.Replace(word); err != nil {
				return err
			}
		}
	}
	for range o.add {
		if err := change.AddHolder(); err != nil {
			return err
		}
	}
	if o.threshold > 0 {
		if err := change.SetThreshold(o.threshold); err != nil {
			return err
		}
	}
	for _, id := range holders {
		do := change.ReplaceHolder
		if o.revoke {
			do = change.RevokeHolder
		}
		if err := do(id); err != nil {
			return err
		}
	}
	return nil
}

// takeRoot takes a root that was signed elsewhere.
func (o *rotateOptions) takeRoot(keys *trust.Keyring) error {
	var requests []*trust.Request
	for _, path := range o.in {
		request, err := readRequest(path)
		if err != nil {
			return err
		}
		requests = append(requests, request)
	}
	if err := keys.MergeRoot(requests...); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(o.in, ", "), err)
	}
	return nil
}

// signAnew brings a repository to the keys as they are now.
func (o *rotateOptions) signAnew(ctx context.Context, keys *trust.Keyring, name string) (a rotatedAnswer, err error) {
	repo, err := openUntagged(openRepository, name)
	if err != nil {
		return a, err
	}
	s, err := openSigningWith(ctx, repo, keys, signingOptions{keys: o.keys})
	if err != nil {
		return a, err
	}
	if slices.Contains(o.what, trust.RoleChannels) {
		if err := s.editor.ReplaceChannelsKey(); err != nil {
			return a, err
		}
	}
	for _, version := range o.drop {
		if err := s.editor.RemoveRelease(version); err != nil {
			return a, err
		}
	}
	a = rotatedAnswer{Repository: repo.Name, Releases: []string{}}
	if view := s.editor.View(); view != nil {
		for _, image := range view.Images() {
			of, err := view.Of(image)
			if err != nil {
				return a, err
			}
			for _, r := range of.Releases() {
				if !slices.Contains(o.drop, r.Version) {
					a.Releases = append(a.Releases, r.Version)
				}
			}
		}
	}
	a.Signed, err = s.finish(ctx, nil)
	return a, err
}

func (g *globals) printRotated(a rotateAnswer) error {
	if g.json {
		return g.printJSON(a)
	}
	for _, line := range a.Changes {
		g.printf("%s\n", line)
	}
	if a.Request != "" {
		for _, line := range a.Missing {
			g.printf("missing: %s\n", line)
		}
		g.printf("Nothing was changed. The holders sign it with: ashlar keys sign %s --keys DIR\nashlar keys rotate --in %[1]s then goes on.\n", a.Request)
		return nil
	}
	if len(a.Changes) == 0 {
		g.printf("root %d is the newest\n", a.Root)
	}
	for _, r := range a.Repositories {
		g.printf("signed %s anew\n  releases %s\n", r.Repository, strings.Join(r.Releases, ", "))
		r.Signed.print(g)
	}
	if len(a.Repositories) == 0 {
		g.printf("Machines see it when each repository has it: ashlar trust refresh REPOSITORY --keys DIR\n")
	}
	return nil
}
