package cli

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/media"
)

type mediaVerifyOptions struct {
	medium string
	rootOptions
}

// mediaVerifyAnswer is what `ashlar media verify --json` prints.
type mediaVerifyAnswer struct {
	Schema       int           `json:"schema"` // 1
	Medium       string        `json:"medium"`
	Intact       bool          `json:"intact"` // exactly what was signed
	Name         string        `json:"name"`
	Version      string        `json:"version"`
	Architecture string        `json:"architecture"`
	Image        verity.Digest `json:"image"` // of the system that it installs
	Signed       vouch         `json:"signed"`
	Withdrawn    string        `json:"withdrawn,omitempty"` // as of when it was written
	media.Verified
}

func newMediaVerifyCommand(g *globals) *cobra.Command {
	var o mediaVerifyOptions
	c := &cobra.Command{
		Use:   "verify DRIVE|FILE",
		Short: "Say whether a medium is still exactly what was signed",
		Long: `Read a medium as it is, without mounting it or starting anything from it, and
compare every byte in use with what its publisher signed. The papers on the
medium bring the signatures, so it needs no network; that those which are renewed
every week have expired since is told, and nothing is wrong with it.

The answers of an unattended installation are nobody's signature's: they are
shown with their sha256. What the medium does not use is read too: it has to be
zero, up to the medium's end.

The publisher's root.json is --root, or that of this machine's image.

Exit code 3 says that the medium was changed or is damaged, 7 that its signatures
are past their time, 8 that it is not signed by whom you believe.`,
		Example: `  sudo ashlar media verify /dev/sdb --root acme-root.json
  ashlar media verify acme-desktop.iso --root acme-root.json --json | jq .intact`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeDrives,
		RunE: func(c *cobra.Command, args []string) error {
			o.medium = args[0]
			return runMediaVerify(c.Context(), o, g)
		},
	}
	o.register(c)
	return c
}

func runMediaVerify(ctx context.Context, o mediaVerifyOptions, g *globals) error {
	m, from, belief, err := openMedium(ctx, o.medium, o.rootOptions)
	if errors.Is(err, media.ErrDamaged) || errors.Is(err, media.ErrNoMedium) {
		return &codeError{exitDamaged, err}
	}
	if err != nil {
		return err
	}
	defer m.Close()
	found, err := m.Verify(ctx, g.progress)
	if err != nil {
		return err
	}
	doc := m.Document
	a := mediaVerifyAnswer{
		Schema: 1, Medium: m.Name, Intact: len(found.Changed) == 0,
		Name: doc.Name, Version: doc.Version, Architecture: doc.Architecture,
		Image:  doc.Root().Digest,
		Signed: describeBelief(from, belief.View, belief.Release), Verified: *found,
	}
	if w := belief.Release.Withdrawn; w != nil {
		a.Withdrawn = w.Reason
	}
	if g.json {
		err = g.printJSON(a)
	} else {
		err = a.print(g)
	}
	if err == nil && !a.Intact {
		err = &codeError{exitDamaged, fmt.Errorf("%s is not what was signed: do not start anything from it", m.Name)}
	}
	return err
}

func (a mediaVerifyAnswer) print(g *globals) error {
	t := tabwriter.NewWriter(g.stdout, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("medium", "%s %s for %s", a.Name, a.Version, a.Architecture)
	row("signed", "%s", a.Signed)
	if a.Signed.Stale != "" {
		row("age", "%s; who installs from it checks for a newer release", a.Signed.Stale)
	}
	if a.Withdrawn != "" {
		row("WITHDRAWN", "%s", a.Withdrawn)
	}
	for _, c := range a.Changed {
		why := "is not what was signed"
		if c.Error != "" {
			why = "cannot be read: " + c.Error
		}
		row("CHANGED", "%s: of %s at offset %d something %s", c.Part, formatBytes(c.Length), c.Offset, why)
	}
	if a.Answers != nil {
		row("answers", "not signed: put there by who wrote the medium, %d bytes, %s", a.Answers.Size, a.Answers.Digest)
	}
	if a.Intact {
		row("intact", "%s in use are exactly what was signed, %s are empty", formatBytes(a.Bytes), formatBytes(a.Empty))
	}
	return t.Flush()
}
