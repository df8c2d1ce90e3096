package cli

import (
	"slices"

	"github.com/ashlar-os/ashlar/internal/machine/update"
)

// statusLines is how many of the lines that a failure left status shows; --json
// has all of them.
const statusLines = 10

// printFailures says which deployments failed, at what, and what becomes of them.
func printFailures(g *globals, answer statusAnswer) {
	for _, d := range answer.Deployments {
		runs := slices.Contains(d.Roles, update.Running)
		failed := slices.Contains(d.Roles, update.Failed)
		if !failed && !(runs && d.LastFailure != nil) {
			continue
		}
		why := d.Failure
		if f := d.LastFailure; f != nil {
			if why = f.Reason; f.Check != "" {
				why = f.Check + ": " + f.Reason
			}
		}
		if why == "" {
			why = "its system started, but was not found good"
		}
		switch {
		case failed:
			g.printf("failed      %s: %s\n", d.ID, why)
		case answer.Kept:
			g.printf("NOT GOOD    %s: %s\n", d.ID, why)
		case d.TriesLeft >= 0:
			g.printf("on trial    %s: an earlier try failed: %s\n", d.ID, why)
		default:
			g.printf("NOT GOOD    %s: %s\n", d.ID, why)
		}
		if f := d.LastFailure; f != nil {
			for _, line := range f.Lines[max(0, len(f.Lines)-statusLines):] {
				g.printf("              | %s\n", line)
			}
		}
		switch {
		case failed:
			g.printf("            it is not tried again until: ashlar update --retry %s; a newer release is taken as ever\n", d.Version)
		case answer.Kept:
			g.printf("            every deployment here has failed, and this one gets furthest: it goes on running\n")
		}
	}
}
