package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/media/drive"
)

type mediaDrivesOptions struct{ all bool }

// drivesAnswer is what `ashlar media drives --json` prints.
type drivesAnswer struct {
	Schema int           `json:"schema"` // 1
	Drives []driveAnswer `json:"drives"`
}

// driveAnswer is one drive.
type driveAnswer struct {
	drive.Drive
	Refused string `json:"refused,omitempty"` // why it would not be written, a sentence
	Cure    string `json:"cure,omitempty"`
}

func newMediaDrivesCommand(g *globals) *cobra.Command {
	var o mediaDrivesOptions
	c := &cobra.Command{
		Use:   "drives",
		Short: "List the drives that a medium can be written to, and why not to others",
		Long: `List sticks, cards and other drives that can be taken out: by model, serial
number, size and what is on them, which is read from the drives themselves and
needs root. With --all the others too.

Below a drive that would not be written it says why, and what to do about it.`,
		Example: "  sudo ashlar media drives\n  sudo ashlar media drives --all\n  ashlar media drives --json | jq '.drives[].serial'",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return runMediaDrives(o, g)
		},
	}
	c.Flags().BoolVarP(&o.all, "all", "a", false, "also drives that are built in")
	return c
}

func runMediaDrives(o mediaDrivesOptions, g *globals) error {
	host := drivesHost()
	list, err := host.Drives()
	if err != nil {
		return err
	}
	answer := drivesAnswer{Schema: 1, Drives: []driveAnswer{}}
	for _, d := range list {
		if !d.Removable && !o.all {
			continue
		}
		a := driveAnswer{Drive: d}
		var refused *drive.Refusal
		if err := host.Judge(d, drive.Wish{}); errors.As(err, &refused) {
			a.Refused, a.Cure = refused.Error(), refused.Hint()
		} else if err != nil {
			return err
		}
		answer.Drives = append(answer.Drives, a)
	}
	if g.json {
		return g.printJSON(answer)
	}
	answer.print(g, len(list)-len(answer.Drives))
	return nil
}

func (a drivesAnswer) print(g *globals, others int) {
	for _, d := range a.Drives {
		g.printf("%s  %s\n  holds    %s\n", d.Path, driveTitle(d.Drive), driveContent(d.Drive))
		if d.Refused != "" {
			g.printf("  refused  %s (%s)\n", d.Refused, d.Cure)
		}
	}
	switch {
	case len(a.Drives) == 0 && others == 0:
		g.printf("there is no drive\n")
	case len(a.Drives) == 0:
		g.printf("there is no drive that can be taken out; %s with --all\n", countOf(others, "other"))
	case others > 0:
		g.printf("%s with --all\n", countOf(others, "other"))
	}
}

func countOf(n int, what string) string {
	if n == 1 {
		return "one " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
