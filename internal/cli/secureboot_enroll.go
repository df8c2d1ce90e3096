package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/image/efivar"
	"github.com/ashlar-os/ashlar/internal/machine/boot"
	"github.com/ashlar-os/ashlar/internal/machine/secureboot"
	"github.com/ashlar-os/ashlar/internal/machine/update"
)

// How systemd-boot enrols what it finds, as loader.conf says it.
const (
	enrollIfSafe = "if-safe"
	enrollForce  = "force"
)

type secureBootEnrollOptions struct {
	dir      string
	byLoader string // "": write the firmware's variables now
	dryRun   bool
}

// secureBootEnrolled is what `ashlar secureboot enroll --json` prints.
type secureBootEnrolled struct {
	Mode      secureboot.Mode `json:"mode"`      // before
	Variables []string        `json:"variables"` // written, or left to the loader
	ByLoader  string          `json:"by_loader"` // "", or how the loader enrols them
	Starts    []string        `json:"starts"`    // files of the ESP that start under these keys
	DB        []string        `json:"db"`        // subjects of the certificates
}

func newSecureBootEnrollCommand(g *globals) *cobra.Command {
	var o secureBootEnrollOptions
	c := &cobra.Command{
		Use:   "enroll [DIR]",
		Short: "Give this machine's firmware the publisher's keys",
		Long: `Write db, KEK and PK of DIR into the firmware of this machine, which must be in
setup mode; from its next start on it starts only what these keys sign. On a machine
that has them already, write what changed in db. DIR holds the .auth files; without
it, those that "ashlar disk --enroll" left on the ESP are taken.

First the loaders and boot files of this machine are checked: keys under which they
would not start any more are refused. A graphics or storage card whose own firmware
is signed by somebody else may still be missed: see docs/secure-boot.md.

--by-loader leaves the keys to systemd-boot, which enrols them at the next start:
"if-safe" in virtual machines, elsewhere from its menu; "force" after a countdown.`,
		Example: `  ashlar secureboot enroll /run/media/stick/secureboot
  ashlar secureboot enroll --by-loader=force`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeDirectory,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.dir = args[0]
			}
			return runSecureBootEnroll(o, g)
		},
	}
	c.Flags().StringVar(&o.byLoader, "by-loader", "", "leave it to the loader: `HOW` is if-safe or force")
	c.Flags().Lookup("by-loader").NoOptDefVal = enrollIfSafe
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would be written, and stop")
	c.RegisterFlagCompletionFunc("by-loader", cobra.FixedCompletions([]string{enrollIfSafe, enrollForce}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func runSecureBootEnroll(o secureBootEnrollOptions, g *globals) error {
	if o.byLoader != "" {
		if err := checkEnrollMode("by-loader", o.byLoader); err != nil {
			return err
		}
	}
	m, unlock, err := lockMachine("secureboot enroll")
	if err != nil {
		return err
	}
	defer unlock()
	if o.dir == "" {
		o.dir = filepath.Join(m.ESP.Dir, secureboot.AutoDir)
	}
	e, err := readEnrolment(o.dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = &hintError{err, "name the directory with PK.auth, KEK.auth and db.auth"}
	}
	if err != nil {
		return err
	}
	programs, err := startedPrograms(m)
	if err != nil {
		return err
	}
	root := machineRoot()
	plan, err := secureboot.Read(root).PlanEnrol(e, programs)
	if err != nil {
		return err
	}
	if o.byLoader != "" && len(plan.Variables) > 0 && plan.Mode != secureboot.Setup {
		return errors.New("the loader enrols keys in setup mode only, and this machine's firmware has keys; leave out --by-loader")
	}
	answer := secureBootEnrolled{
		Mode: plan.Mode, Variables: plan.Variables, ByLoader: o.byLoader, Starts: plan.Starts, DB: subjects(e.DB),
	}
	if !o.dryRun && len(plan.Variables) > 0 {
		if o.byLoader != "" {
			err = secureboot.LeaveToLoader(m.ESP.Dir, e, o.byLoader)
		} else {
			err = plan.Apply(root)
		}
		if err != nil {
			return err
		}
	}
	return printEnrolled(g, answer, o.dryRun)
}

// checkEnrollMode refuses words that the loader does not know.
func checkEnrollMode(flag, how string) error {
	if how != enrollIfSafe && how != enrollForce {
		return &codeError{exitUsage, fmt.Errorf("--%s %q: want %s or %s", flag, how, enrollIfSafe, enrollForce)}
	}
	return nil
}

// startedPrograms lists what this machine's next start needs: its loaders, what
// runs and what boots next.
func startedPrograms(m *update.Machine) ([]string, error) {
	loaders, err := secureboot.Loaders(m.ESP.Dir)
	if err != nil {
		return nil, err
	}
	var programs []string
	for _, name := range loaders {
		programs = append(programs, filepath.Join(m.ESP.Dir, name))
	}
	if len(programs) == 0 {
		return nil, fmt.Errorf("%q holds no loader", m.ESP.Dir)
	}
	entries, err := m.ESP.Entries()
	if err != nil {
		return nil, err
	}
	next, hasNext := boot.Explain(entries)
	for _, entry := range entries {
		if !entry.Foreign && (entry.Image == m.Running || hasNext && entry.File == next.Entry.File) {
			programs = append(programs, m.ESP.Path(entry))
		}
	}
	return programs, nil
}

// readEnrolment reads the .auth files of a directory, or of secureboot/ in it.
func readEnrolment(dir string) (*efivar.Enrolment, error) {
	if _, err := os.Stat(filepath.Join(dir, "PK.auth")); errors.Is(err, fs.ErrNotExist) {
		if inner := filepath.Join(dir, "secureboot"); isDir(inner) {
			dir = inner
		}
	}
	e, err := efivar.ReadEnrolment(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("reading the Secure Boot keys of %q: %w", dir, err)
	}
	return e, nil
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// subjects are those of an update's certificates.
func subjects(u *efivar.Update) []string {
	list := []string{}
	certs, _ := efivar.Certificates(u.Entries) // those that cannot be read have none
	for _, cert := range certs {
		list = append(list, cert.Subject.String())
	}
	return slices.Clip(list)
}

func printEnrolled(g *globals, a secureBootEnrolled, dryRun bool) error {
	if g.json {
		return g.printJSON(a)
	}
	for _, path := range a.Starts {
		g.printf("starts    %s\n", path)
	}
	for _, subject := range a.DB {
		g.printf("db        %s\n", subject)
	}
	switch {
	case len(a.Variables) == 0:
		g.printf("nothing to do: this machine's firmware has these keys\n")
	case dryRun:
		g.printf("nothing was changed (--dry-run)\n")
	case a.ByLoader != "":
		g.printf("the loader enrols them at the next start (%s)\n", a.ByLoader)
	case a.Mode == secureboot.Setup:
		g.printf("enrolled; from its next start on, this machine starts only what db allows\n")
	default:
		g.printf("db is changed\n")
	}
	return nil
}
