package cli

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/machine/history"
)

// historyAnswer is what `ashlar history --json` prints.
type historyAnswer struct {
	Schema int             `json:"schema"`
	Events []history.Event `json:"events"` // oldest first
}

func newHistoryCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "history",
		GroupID: "machine",
		Short:   "Show the life of every deployment that was on this machine",
		Long: `Show what happened to deployments, oldest first: installed, staged, booted, blessed (a boot
was found good), failed, counted-again, kept, rolled-back, pinned, unpinned and
removed; by whom and why. Of the boot loader: loader-tried, loader-failed and
loader-updated.`,
		Example: "  ashlar history\n  ashlar history --json | jq -r '.events[] | select(.event == \"failed\") | .why'",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return runHistory(c.Context(), g) },
	}
}

func runHistory(_ context.Context, g *globals) error {
	m, err := openMachine()
	if err != nil {
		return err
	}
	events, err := history.Read(m.Store.Dir)
	if err != nil {
		return err
	}
	if g.json {
		if events == nil {
			events = []history.Event{}
		}
		return g.printJSON(historyAnswer{1, events})
	}
	w := tabwriter.NewWriter(g.stdout, 0, 8, 2, ' ', 0)
	for _, e := range events {
		at := e.Time
		if t, err := time.Parse(time.RFC3339, e.Time); err == nil {
			at = t.Local().Format("2006-01-02 15:04:05")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\tby %s\t%s\n", at, e.ID, e.Kind, e.By, e.Why)
	}
	return w.Flush()
}

// actor is who runs this: the user that logged in, also before a sudo, or the
// service. It is told in the history and decides nothing.
func actor() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	const unset = "4294967295"
	if b, err := os.ReadFile("/proc/self/loginuid"); err == nil {
		if id := strings.TrimSpace(string(b)); id != "" && id != unset {
			return userName(id)
		}
	}
	if b, err := os.ReadFile("/proc/self/cgroup"); err == nil {
		switch unit := filepath.Base(strings.TrimSpace(string(b))); {
		case unit == "ashlar-update.service":
			return history.ByTimer
		case strings.HasPrefix(unit, "ashlar-"):
			return history.ByAgent
		}
	}
	return userName(fmt.Sprint(os.Getuid()))
}

func userName(id string) string {
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "user " + id
}
