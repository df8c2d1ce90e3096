package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/boot"
	"github.com/ashlar-os/ashlar/internal/machine/etc"
	"github.com/ashlar-os/ashlar/internal/machine/history"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/sysroot"
	"github.com/ashlar-os/ashlar/internal/machine/update"
)

// statusAnswer is what `ashlar status --json` prints.
type statusAnswer struct {
	Schema      int                `json:"schema"`
	Running     string             `json:"running"` // image digest, or ""
	Sealed      bool               `json:"sealed"`  // the kernel checks every object of the root
	Signed      bool               `json:"signed"`  // what runs is a release that its publisher signed
	Recall      *update.Recall     `json:"recall,omitempty"`
	Next        statusNext         `json:"next"`
	Kept        bool               `json:"kept"`        // what runs is not good, and kept because nothing here gets further
	Deployments []statusDeployment `json:"deployments"` // newest version first
	Conflicts   []etc.Item         `json:"etc_conflicts"`
	Boot        bootAnswer         `json:"boot"`             // how the running system was started
	SecureBoot  secureBootAnswer   `json:"secure_boot"`      // what the firmware checks, and who signed what it starts
	Loader      *loaderAnswer      `json:"loader,omitempty"` // of a machine; a medium has its own
	Foreign     []string           `json:"foreign_entries"`  // boot files that are not Ashlar's
	Broken      []string           `json:"broken"`           // deployments that cannot be read or booted, and why
	Room        *update.Ahead      `json:"room,omitempty"`   // for an update of the size of what runs, where that can be told
	Short       []string           `json:"short"`            // of room, sentences: the next update may not fit
	Reset       bool               `json:"reset_pending"`    // the next boot takes away /var and the changes of /etc

	Medium     *mediumAnswer       `json:"medium,omitempty"`     // that the system runs from; then there are no deployments
	Encryption *sysroot.Encryption `json:"encryption,omitempty"` // of the root partition
	Var        *varAnswer          `json:"var,omitempty"`        // the disk that /var has of its own
}

type statusNext struct {
	ID    string        `json:"id"`
	Image verity.Digest `json:"image"`
	Why   string        `json:"why"`
}

type statusDeployment struct {
	LastFailure *history.Failure `json:"last_failure"` // all of what its last failed boot left; null: nothing, or it was good since

	ID        string        `json:"id"`
	Name      string        `json:"name"`
	Version   string        `json:"version"`
	Image     verity.Digest `json:"image"`
	Release   string        `json:"release"`
	Origin    store.Origin  `json:"origin"`
	Roles     []update.Role `json:"roles"`
	TriesLeft int           `json:"tries_left"` // -1: not counted, for it proved good or has no boot file
	Pinned    bool          `json:"pinned"`
	Failure   string        `json:"failure"` // why its last boot failed, where that is known

	Signatures *signatureAnswer `json:"signatures,omitempty"` // none where only a memory of it is here
}

func newStatusCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		GroupID: "machine",
		Short:   "Show what runs, what is here, and what boots next",
		Long: `Show the deployments of this machine, what each of them is to it, and which one
boots next and why. Nothing is changed and no lock is taken.`,
		Example: "  ashlar status\n  ashlar status --json | jq -r .next.id",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return runStatus(c.Context(), g) },
	}
}

func runStatus(_ context.Context, g *globals) error {
	if record := runsFromMedium(); record != nil {
		return showStatus(g, statusOfMedium(record))
	}
	m, err := openMachine()
	if err != nil {
		return err
	}
	s, err := m.Look()
	if err != nil {
		return err
	}
	answer := describeStatus(m, s)
	if mounts, err := readMounts(); err == nil {
		answer.Sealed = sysroot.Sealed(mounts)
	}
	answer.Boot = checkBoot(m, s, []verity.Digest{m.Running})
	answer.SecureBoot = describeSecureBoot(m, s)
	answer.Loader = describeLoader(m)
	if room, err := m.LookAhead(s); err == nil { // else verify says what is wrong
		answer.Room, answer.Short = room, room.Short()
	}
	if !m.Running.IsZero() {
		answer.Conflicts = readConflicts(m.Store.EtcReport(m.Running))
	}
	if record, err := readBootRecord(); err == nil && record.Image == m.Running {
		answer.Encryption = record.Encryption
		answer.Var = describeVar(record.Var)
	}
	return showStatus(g, answer)
}

func showStatus(g *globals, answer statusAnswer) error {
	switch {
	case g.json:
		return g.printJSON(answer)
	case answer.Medium != nil:
		answer.Medium.print(g, answer)
		answer.SecureBoot.print(g)
		answer.Boot.print(g)
	default:
		printStatus(g, answer)
	}
	return nil
}

func describeStatus(m *update.Machine, s *update.State) statusAnswer {
	answer := statusAnswer{
		Schema: 1, Kept: s.Kept, Reset: m.Store.ResetAsked(), Deployments: []statusDeployment{}, Conflicts: []etc.Item{}, Foreign: []string{}, Broken: []string{}, Short: []string{},
	}
	if !m.Running.IsZero() {
		answer.Running = m.Running.String()
	}
	vouches, recall := m.Vouches(s)
	answer.Recall = recall
	for i := range s.Deployments {
		d := &s.Deployments[i]
		row := statusDeployment{
			ID: d.ID(), Name: d.Name, Version: d.Version, Image: d.Image, Release: d.Release,
			Origin: d.Origin, Roles: d.Roles, Pinned: d.Pinned, TriesLeft: -1, Failure: d.Failure, LastFailure: d.Fault,
		}
		if v, ok := vouches[d]; ok {
			signatures := describeVouch(v)
			row.Signatures = &signatures
			answer.Signed = answer.Signed || d.Is(update.Running) && v.Belief == update.Verified
		}
		if row.Roles == nil {
			row.Roles = []update.Role{}
		}
		if d.Entry != nil {
			row.TriesLeft = d.Entry.Left
		}
		answer.Deployments = append(answer.Deployments, row)
	}
	if next, ok := boot.Explain(s.Entries); ok {
		answer.Next = statusNext{ID: next.Entry.Name, Image: next.Entry.Image, Why: next.Why}
		if d := s.With(update.Next); d != nil {
			answer.Next.ID = d.ID()
		}
	}
	for _, e := range s.Entries {
		if e.Foreign {
			answer.Foreign = append(answer.Foreign, e.File)
		}
	}
	for i := range s.Deployments {
		if d := &s.Deployments[i]; d.Lost {
			answer.Broken = append(answer.Broken, d.ID()+": its boot file is not on the ESP any more; ashlar verify --repair fetches it again")
		}
	}
	for _, broken := range s.Broken {
		answer.Broken = append(answer.Broken, fmt.Sprintf("%s: %v", broken.Image.Short(), broken.Err))
	}
	return answer
}

// readConflicts reads what the /etc merge of a deployment's first boot left
// for a person to decide; a deployment that merged nothing has no report.
func readConflicts(path string) []etc.Item {
	data, err := os.ReadFile(path)
	if err != nil {
		return []etc.Item{}
	}
	var report etc.Report
	if json.Unmarshal(data, &report) != nil {
		return []etc.Item{}
	}
	// What was resolved since is no conflict any more.
	open := []etc.Item{}
	for _, item := range report.Conflicts() {
		if _, err := os.Lstat(filepath.Join(machineRoot(), item.New)); item.New == "" || err == nil {
			open = append(open, item)
		}
	}
	return open
}

// readMounts reads what the first process sees, and not this process, which
// may have a mount namespace of its own.
func readMounts() ([]sysroot.Mount, error) {
	f, err := os.Open(filepath.Join(machineRoot(), "proc/1/mountinfo"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return sysroot.ReadMounts(f)
}

func printStatus(g *globals, answer statusAnswer) {
	w := tabwriter.NewWriter(g.stdout, 0, 8, 2, ' ', 0)
	for _, d := range answer.Deployments {
		roles := make([]string, len(d.Roles))
		for i, r := range d.Roles {
			roles[i] = string(r)
		}
		follows := "follows no repository"
		if d.Origin.Repository != "" {
			follows = d.Origin.Repository + ":" + d.Origin.Channel
		}
		fmt.Fprintf(w, "%s-%s\t%s\t%s\t%s\n", d.Name, d.Version, d.Image.Short(), strings.Join(roles, ", "), follows)
	}
	w.Flush()
	sealed := "sealed: the kernel checks every object at every read"
	if !answer.Sealed {
		sealed = "NOT SEALED: the root is not the image's"
	}
	g.printf("\nroot        %s\n", sealed)
	printEncryption(g, answer.Encryption)
	answer.Var.print(g)
	printSignatures(g, answer)
	answer.SecureBoot.print(g)
	answer.Loader.print(g)
	answer.Boot.print(g)
	if answer.Next.ID == "" {
		answer.Next = statusNext{ID: "nothing", Why: "no boot file on the ESP would be started"}
	}
	g.printf("next boot   %s: %s\n", answer.Next.ID, answer.Next.Why)
	if answer.Reset {
		g.printf("RESET       the next boot takes away /var and all changes of /etc; ashlar reset --cancel keeps them\n")
	}
	if answer.Room != nil {
		g.printf("room        %s in the store, %s on the ESP\n", formatBytes(answer.Room.Free.Store), formatBytes(answer.Room.Free.ESP))
	}
	for _, text := range answer.Short {
		g.printf("SHORT       %s; ashlar gc --dry-run shows what can go\n", text)
	}
	printFailures(g, answer)
	for _, item := range answer.Conflicts {
		g.printf("conflict    %s: %s; the image's version is %s\n", item.Path, item.Detail, item.New)
	}
	for _, file := range answer.Foreign {
		g.printf("foreign     boot file %q is not Ashlar's and is left alone\n", file)
	}
	for _, text := range answer.Broken {
		g.printf("broken      deployment %s\n", text)
	}
}
