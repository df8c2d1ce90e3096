package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/limited"
	"github.com/ashlar-os/ashlar/internal/machine/install"
	"github.com/ashlar-os/ashlar/internal/machine/secureboot"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/sysroot"
	"github.com/ashlar-os/ashlar/internal/machine/update"
	"github.com/ashlar-os/ashlar/internal/program"
)

type installOptions struct {
	plan, console bool
	answers       string
	disk, erase   string
	varDisk       string
	eraseVar      string
	keepVar       bool
}

// installAnswer is what `ashlar install --json` prints.
type installAnswer struct {
	Schema      int             `json:"schema"` // 1
	Plan        *install.Plan   `json:"plan"`
	Disks       []install.Disk  `json:"disks"`
	Report      *install.Report `json:"report"`       // null where nothing was done (--plan)
	RecoveryKey string          `json:"recovery_key"` // of an encrypted disk; it is shown this once
}

func newInstallCommand(g *globals) *cobra.Command {
	var o installOptions
	c := &cobra.Command{
		Use:     "install",
		GroupID: "machine",
		Short:   "Install the system of this medium on a disk",
		Long: `Install the system that this computer was started with from a medium. Without
--answers it asks five questions, full-screen; it works on a serial console too.
What will be done is shown before anything is touched, and --plan shows only that.

A disk is named by its stable id. Where there are several it has to be named, and
one that is not empty has to be named a second time with --erase. Another disk, the
medium among them, is never written to. /var can have a disk of its own, which is
never chosen either: --var-disk, and --erase-var where it is not empty.

At the end every byte is read back from the disk, and the digest of its image is
compared with the one that is signed. The report is kept on the installed machine
as /var/log/ashlar/install.json.

Answers are a TOML file: docs/install.md. A medium can bring them along.`,
		Example: "  ashlar install\n  ashlar install --plan --answers box.toml\n  ashlar install --answers box.toml --disk ata-Disk_Model_S3RIAL --erase ata-Disk_Model_S3RIAL\n  ashlar install --plan --disk virtio-one --var-disk virtio-two",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return runInstall(c.Context(), o, g) },
	}
	flags := c.Flags()
	flags.BoolVar(&o.plan, "plan", false, "say what would be done, and stop")
	flags.StringVar(&o.answers, "answers", "", "ask nothing: `FILE` has the answers")
	flags.StringVar(&o.disk, "disk", "", "install to the disk with this `ID`")
	flags.StringVar(&o.erase, "erase", "", "the `ID` of the disk once more: lose what is on it")
	flags.StringVar(&o.varDisk, "var-disk", "", "give /var the disk with this `ID`, another one")
	flags.StringVar(&o.eraseVar, "erase-var", "", "the `ID` of the disk for /var once more: lose what is on it")
	flags.BoolVar(&o.keepVar, "keep-var", false, "the disk has an Ashlar: keep its /var, replace the system")
	flags.BoolVar(&o.console, "console", false, "as the medium's own service on each console")
	if err := flags.MarkHidden("console"); err != nil {
		panic(err) // it was made one line above
	}
	c.MarkFlagsMutuallyExclusive("console", "plan")
	c.MarkFlagsMutuallyExclusive("console", "answers")
	return c
}

func runInstall(ctx context.Context, o installOptions, g *globals) error {
	record := runsFromMedium()
	if record == nil {
		return &hintError{
			errors.New("this system was not started from an install medium, so there is nothing to install from"),
			"ashlar media write makes a medium; start the computer from it",
		}
	}
	if machineRoot() == "/" && os.Geteuid() != 0 {
		return errNotRoot
	}
	in, err := newInstaller(record)
	if err != nil {
		return err
	}
	if o.console {
		return runInstallConsole(ctx, o, g, in, record)
	}
	var a *install.Answers
	switch {
	case o.answers != "":
		if a, err = readAnswers(o.answers); err != nil {
			return &codeError{exitUsage, err}
		}
	case o.plan || g.json:
		a = &install.Answers{Schema: install.AnswersSchema}
	default:
		return runInstaller(ctx, o, in, record)
	}
	o.apply(a)
	return installUnasked(ctx, o, g, in, record, a)
}

// apply lets the command line have the last word.
func (o *installOptions) apply(a *install.Answers) {
	if o.disk != "" {
		a.Disk.ID = o.disk
	}
	if o.erase != "" {
		a.Disk.Erase = o.erase
	}
	if o.varDisk != "" {
		a.Var.Disk = o.varDisk
	}
	if o.eraseVar != "" {
		a.Var.Erase = o.eraseVar
	}
	if o.keepVar {
		a.Disk.KeepVar = true
	}
}

func readAnswers(path string) (*install.Answers, error) {
	b, err := limited.File(path, install.MaxAnswers)
	if err != nil {
		return nil, err
	}
	return install.ReadAnswers(path, b)
}

// newInstaller reads what the medium says of itself.
func newInstaller(record *sysroot.Record) (*install.Installer, error) {
	root := machineRoot()
	papers, err := readMediumRegion(record, record.Medium.Papers, medium.ReadPapers)
	if err != nil {
		return nil, fmt.Errorf("cannot trust this medium: %w", err)
	}
	keys, err := readRoot(filepath.Join(root, update.RootPath))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	in := &install.Installer{
		Medium:  update.Medium{Document: papers.Document, Trust: papers.Trust, Payload: filepath.Join(root, sysrootDir, "ashlar")},
		Running: record.Image, Root: keys, Firmware: secureboot.Read(root), System: root,
		Work: filepath.Join(root, "run/ashlar/install"),
	}
	if root != "/" {
		in.Sealer = store.Software
	}
	return in, nil
}

// readMediumRegion reads one of the two parts of a medium that its seal does not cover.
func readMediumRegion[T any](record *sysroot.Record, r sysroot.Region, read func(io.Reader) (T, error)) (v T, err error) {
	f, err := os.Open(filepath.Join(machineRoot(), record.Medium.Device))
	if err != nil {
		return v, err
	}
	defer f.Close()
	return read(io.NewSectionReader(f, r.Offset, r.Length))
}

// installUnasked installs by answers alone.
func installUnasked(ctx context.Context, o installOptions, g *globals, in *install.Installer, record *sysroot.Record, a *install.Answers) error {
	if !o.plan {
		unlock, err := lockInstall()
		if err != nil {
			return err
		}
		defer unlock()
	}
	err := installLocked(ctx, o, g, in, record, a)
	if err != nil && !o.plan {
		tellKernel(err.Error())
	}
	return err
}

// installLocked is installUnasked under the lock; a plan needs none.
func installLocked(ctx context.Context, o installOptions, g *globals, in *install.Installer, record *sysroot.Record, a *install.Answers) error {
	disks, err := installDisks(record)
	if err != nil {
		return err
	}
	answer := installAnswer{Schema: 1, Disks: disks}
	if answer.Plan, err = in.Plan(ctx, a, disks); err != nil {
		return err
	}
	if !g.json {
		for _, line := range answer.Plan.Lines() {
			g.printf("%s\n", line)
		}
	}
	if o.plan {
		if g.json {
			return g.printJSON(answer)
		}
		g.printf("nothing was changed (--plan)\n")
		return nil
	}
	in.Log = tellKernel
	result, err := in.Run(ctx, answer.Plan, g.progress)
	if err != nil {
		return err
	}
	tellReport(&result.Report)
	if err := noteInstalled(); err != nil {
		return err
	}
	answer.Report, answer.RecoveryKey = &result.Report, result.RecoveryKey
	if g.json {
		if err := g.printJSON(answer); err != nil {
			return err
		}
		return installThen(ctx, a.Then)
	}
	for _, line := range answer.Report.Lines() {
		g.printf("%s\n", line)
	}
	if result.RecoveryKey != "" {
		g.printf("Recovery key of the encrypted disk, shown this once: %s\n", result.RecoveryKey)
	}
	return installThen(ctx, a.Then)
}

// installThen ends the live system, where the answers want that.
func installThen(ctx context.Context, then string) error {
	switch then {
	case "reboot":
		return reboot(ctx)
	case "poweroff":
		_, err := program.Run(ctx, program.Command{Args: []string{"systemctl", "poweroff"}})
		return err
	}
	return nil
}

// tellKernel writes a line to the kernel's log, which the kernel's consoles show, also
// those that nobody installs on (unless the command line has "quiet").
func tellKernel(line string) {
	if machineRoot() != "/" {
		return
	}
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return // it is told here as well
	}
	defer f.Close()
	fmt.Fprintf(f, "<5>ashlar-install: %s\n", line)
}

// tellReport shows what was installed on all of them. No secret is in a report.
func tellReport(r *install.Report) {
	for _, line := range r.Lines() {
		tellKernel(line)
	}
}

// lockInstall lets one installation run at a time: there is an installer on every console.
func lockInstall() (unlock func(), err error) {
	dir := filepath.Join(machineRoot(), "run/ashlar")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "install.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, &codeError{exitBusy, errors.New("an installation is under way already, on another console")}
	}
	return func() { f.Close() }, nil // twice does no harm
}

// installedMark says that this live system has installed something.
func installedMark() string { return filepath.Join(machineRoot(), "run/ashlar/installed") }

// noteInstalled keeps a service that is started again from installing again.
func noteInstalled() error { return os.WriteFile(installedMark(), nil, 0o644) }
