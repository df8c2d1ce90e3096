package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/trust"
)

func newKeysCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "keys",
		GroupID: "publish",
		Short:   "The keys that releases are signed with",
		Long: `A publisher's keys are files of a directory, each closed by a passphrase:

  root-1.key … root-N.key       one for each holder; a threshold of them names all others
  targets.key                   signs releases
  channels.key                  lets channels name releases
  snapshot.key, timestamp.key   say which state is the newest, every few days
  root.json, roots/             the public part: what images carry ([trust] root)

Give each holder of a root key theirs, with root.json and roots/, and keep no copy.
Where only channels move, or signatures are kept fresh, only those keys have to be.`,
		Example: `  ashlar keys init keys/ --holders 3 --threshold 2
  ashlar keys show keys/`,
	}
	c.AddCommand(newKeysInitCommand(g), newKeysShowCommand(g), newKeysRotateCommand(g), newKeysRevokeCommand(g), newKeysSignCommand(g))
	return c
}

// keysAnswer is what `ashlar keys init --json` and `ashlar keys show --json` print.
type keysAnswer struct {
	Schema    int         `json:"schema"` // 1
	Dir       string      `json:"dir"`
	Root      int64       `json:"root"` // number of the newest
	Until     time.Time   `json:"until"`
	Threshold int         `json:"threshold"` // as many holders must sign a root
	Keys      []trust.Key `json:"keys"`
	Expiry    expiry      `json:"expiry"` // for how long what is signed is good
}

type keysInitOptions struct {
	dir                string
	holders, threshold int
	expires            []string
	passphrase         passphraseOptions
}

func newKeysInitCommand(g *globals) *cobra.Command {
	var o keysInitOptions
	c := &cobra.Command{
		Use:   "init DIR",
		Short: "Make a publisher's keys",
		Long: `Make keys in DIR, and the first root, signed by all its holders. Keys that are
there already are never overwritten. Each key has a passphrase; at the terminal an
empty one is the same as for the key before.

--holders root keys are made, of which --threshold must sign to replace any key:
with 2 of 3 one may be lost, and one stolen.

--expires says for how long signatures are good: root=2y, targets=1y (of channels
too), snapshot=14d and timestamp=7d where it says nothing. Units are s, m, h, d, w
and y. DIR/expiry.toml keeps it, and may be edited.`,
		Example: `  ashlar keys init keys/ --holders 3 --threshold 2
  ashlar keys init keys/ --expires timestamp=2d --expires snapshot=4d`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeDirectory,
		RunE: func(c *cobra.Command, args []string) error {
			o.dir = args[0]
			return runKeysInit(c.Context(), o, g)
		},
	}
	c.Flags().IntVar(&o.holders, "holders", 1, "`NUMBER` of holders of root keys")
	c.Flags().IntVar(&o.threshold, "threshold", 1, "`NUMBER` of holders that must sign a new root")
	c.Flags().StringArrayVar(&o.expires, "expires", nil, "`ROLE=PERIOD` for which signatures are good, such as timestamp=7d")
	o.passphrase.register(c.Flags())
	return c
}

func runKeysInit(ctx context.Context, o keysInitOptions, g *globals) error {
	e, err := parseExpiry(o.expires)
	if err != nil {
		return &codeError{exitUsage, err}
	}
	keys, err := trust.Init(ctx, o.dir, trust.InitOptions{
		Holders: o.holders, Threshold: o.threshold, Passphrase: o.passphrase.source(), Expiry: e.durations(),
	})
	if err != nil {
		return err
	}
	if err := writeExpiry(o.dir, e); err != nil {
		return err
	}
	if err := g.printKeys(keys); err != nil || g.json {
		return err
	}
	g.printf("Images believe these keys when their recipe says so:\n  [trust]\n  root = %q\n", filepath.Join(o.dir, "root.json"))
	return nil
}

func newKeysShowCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "show DIR",
		Short: "List keys, and who needs which",
		Long: `List the keys that the newest root in DIR names, and key files that it does not
name: that of channels, which each repository names, and old ones. No passphrase
is asked for.`,
		Example:           "  ashlar keys show keys/",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeDirectory,
		RunE: func(_ *cobra.Command, args []string) error {
			keys, err := trust.OpenKeyring(args[0], nil)
			if err != nil {
				return err
			}
			return g.printKeys(keys)
		},
	}
}

func (g *globals) printKeys(keys *trust.Keyring) error {
	list, err := keys.Keys()
	if err != nil {
		return err
	}
	e, err := readExpiry(keys.Dir())
	if err != nil {
		return err
	}
	root := keys.RootSigned()
	a := keysAnswer{Schema: 1, Dir: keys.Dir(), Root: root.Version, Until: root.Expires, Threshold: root.Threshold, Keys: list, Expiry: e.effective()}
	if g.json {
		return g.printJSON(a)
	}
	t := tabwriter.NewWriter(g.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "root\t%d, good until %s; %d of %d holders must sign the next\n", a.Root, a.Until.Format(time.DateOnly), a.Threshold, len(root.Keys))
	for _, k := range a.Keys {
		where := k.File
		switch {
		case where == "" && k.Holder > 0:
			where = fmt.Sprintf("root-%d, elsewhere", k.Holder)
		case where == "":
			where = "elsewhere"
		case k.Role == trust.RoleChannels:
			where += ", named by repositories"
		case !k.Active:
			where += ", not in use"
		}
		fmt.Fprintf(t, "%s\t%.12s  %s\n", k.Role, k.ID, where)
	}
	fmt.Fprintf(t, "signs for\troot %s, targets and channels %s, snapshot %s, timestamp %s\n",
		a.Expiry.Root, a.Expiry.Targets, a.Expiry.Snapshot, a.Expiry.Timestamp)
	return t.Flush()
}
