package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/history"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// Result is what an installation has come to.
type Result struct {
	Report Report
	// RecoveryKey opens an encrypted disk where the passphrase is forgotten. It is
	// written down nowhere: this is the one time that it is shown.
	RecoveryKey string
}

// job is one run of a plan.
type job struct {
	*Installer
	plan *Plan
	p    progress.Reporter

	dev      *device
	espDev   string // of the partition
	rootDev  string // of the file system in it
	locked   bool   // there is a mapping to close
	mounted  []string
	machine  *update.Machine
	recovery string
	oldESP   gpt.UUID // of the ESP that was on the disk before
	vars     varJob   // the disk of /var, where that has one
	report   Report
}

// Run does what the plan says; see the package's text for the steps and what a cut
// after each leaves.
func (in *Installer) Run(ctx context.Context, plan *Plan, p progress.Reporter) (_ *Result, err error) {
	if p == nil {
		p = progress.None
	}
	if in.esp.kind == "" {
		in.esp = fat
	}
	if in.mounts.mount == nil {
		in.mounts = kernel
	}
	j := &job{Installer: in, plan: plan, p: p, report: newReport(plan, in.now())}
	defer func() { err = errors.Join(err, j.letGo()) }()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"preparing the disk", j.prepare},
		{"mounting", j.mount},
		{"copying the system", j.stage},
		{"writing the settings", j.settings},
		{"reading everything back", j.verify},
		{"making the disk bootable", j.finish},
	} {
		in.log("%s", step.name)
		j.report.note(in.now(), step.name)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := step.do(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	if err := j.letGo(); err != nil {
		return nil, err
	}
	return &Result{Report: j.report, RecoveryKey: j.recovery}, nil
}

// prepare divides and formats the disk. Of one whose /var is kept only the ESP is
// made anew, so that nothing boots from it until the end.
func (j *job) prepare(ctx context.Context) (err error) {
	if j.dev, err = openDevice(&j.plan.Disk); err != nil {
		return err
	}
	if err := j.claimVar(); err != nil {
		return err
	}
	if old, _, ok := FindAshlar(j.plan.Disk.Path, j.plan.Disk.Sector); ok {
		j.oldESP = old.ID
	}
	if j.plan.Mode != KeepVar {
		if err := j.dev.wipe(); err != nil {
			return err
		}
		if err := j.dev.divide(j.plan.Partitions, j.plan.Disk.Size); err != nil {
			return err
		}
	}
	if j.espDev, err = j.dev.partition(ctx, j.plan.Partitions[0]); err != nil {
		return err
	}
	if j.rootDev, err = j.dev.partition(ctx, j.plan.Partitions[1]); err != nil {
		return err
	}
	if err := j.openRoot(ctx); err != nil {
		return err
	}
	if j.plan.Mode == KeepVar {
		if err := j.mayReplace(ctx); err != nil {
			return err
		}
	}
	j.p.Stage("making file systems", 0, progress.Items)
	if err := emptyESP(j.espDev); err != nil {
		return err
	}
	if err := j.makeVar(ctx); err != nil {
		return err
	}
	if err := j.esp.format(ctx, j.espDev); err != nil {
		return err
	}
	if j.plan.Mode == KeepVar {
		return nil
	}
	return formatRoot(ctx, j.rootDev)
}

// mayReplace asks the machine whose /var is kept what it accepted before: nothing
// older replaces it. Until here it boots as it did.
func (j *job) mayReplace(ctx context.Context) error {
	if err := j.mountAt(j.rootDev, j.rootDir(), "ext4"); err != nil {
		return err
	}
	s, err := store.Open(filepath.Join(j.rootDir(), "ashlar"))
	if err == nil {
		m := &update.Machine{Store: s, Arch: j.Arch, Root: j.Root, Now: j.Now}
		_, err = m.CheckMedium(ctx, j.Medium, j.plan.Origin)
	}
	if err == nil {
		err = j.keepVar(ctx, s)
	}
	return errors.Join(err, j.unmount())
}

// openRoot encrypts the root partition, or unlocks the one that is kept.
func (j *job) openRoot(ctx context.Context) (err error) {
	passphrase := j.plan.answers.Encryption.Passphrase
	if j.plan.Mode == KeepVar {
		switch encrypted, err := isEncrypted(j.rootDev); {
		case err != nil:
			return err
		case encrypted && passphrase == "":
			return fmt.Errorf("the root partition is encrypted, and its passphrase is not given (field %q)", "encryption.passphrase")
		case !encrypted && passphrase != "":
			return fmt.Errorf("the root partition is not encrypted, and what is kept cannot be: leave field %q out, or start over", "encryption.passphrase")
		case !encrypted:
			return nil
		}
	} else if passphrase == "" {
		return nil
	} else if j.recovery, err = j.encrypt(ctx, j.rootDev, passphrase); err != nil {
		return err
	}
	j.rootDev, err = unlock(ctx, j.rootDev, passphrase)
	j.locked = err == nil
	return err
}

func (j *job) rootDir() string { return filepath.Join(j.Work, "root") }
func (j *job) espDir() string  { return filepath.Join(j.Work, "esp") }
func (j *job) varDir() string  { return j.machine.Store.VarPath() }

// mount mounts both file systems and opens the machine that is to be.
func (j *job) mount(context.Context) error {
	for _, m := range []struct{ dev, dir, kind string }{{j.rootDev, j.rootDir(), "ext4"}, {j.espDev, j.espDir(), j.esp.kind}} {
		if err := j.mountAt(m.dev, m.dir, m.kind); err != nil {
			return err
		}
	}
	s, err := store.Create(filepath.Join(j.rootDir(), "ashlar"))
	if err != nil {
		return err
	}
	if j.Sealer != nil {
		s.Sealer = j.Sealer
	}
	if err := j.mountVar(s); err != nil {
		return err
	}
	partition, err := esp.Open(j.espDir())
	if err != nil {
		return err
	}
	j.machine = &update.Machine{
		Store: s, ESP: partition, Firmware: j.Firmware, Arch: j.Arch, Root: j.Root, Now: j.Now, By: "installer",
	}
	return nil
}

func (j *job) mountAt(dev, dir, kind string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := j.mounts.mount(dev, dir, kind); err != nil {
		return fmt.Errorf("mounting %q: %w", dev, err)
	}
	j.mounted = append(j.mounted, dir)
	return nil
}

// unmount brings everything to the disk and lets go of the file systems. It does
// not leave the first to the second: another process whose mount namespace was made
// meanwhile has them mounted too, and then the last one to go writes.
func (j *job) unmount() error {
	var all error
	for len(j.mounted) > 0 {
		last := len(j.mounted) - 1
		dir := j.mounted[last]
		j.mounted = j.mounted[:last]
		if err := syncFS(dir); err != nil {
			all = errors.Join(all, err)
		}
		if err := j.mounts.unmount(dir); err != nil {
			all = errors.Join(all, fmt.Errorf("unmounting %q: %w", dir, err))
		}
	}
	return all
}

func syncFS(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("syncing %q: %w", dir, err)
	}
	return nil
}

// letGo gives back all that was taken. It may be called twice.
func (j *job) letGo() error {
	err := j.unmount()
	if j.locked {
		j.locked = false
		err = errors.Join(err, lock())
	}
	err = errors.Join(err, j.vars.letGo())
	if j.dev != nil {
		err = errors.Join(err, j.dev.close())
	}
	return err
}

// stage makes the deployment, as an update does.
func (j *job) stage(ctx context.Context) error {
	m := j.machine
	unlock, err := m.Store.Lock("install")
	if err != nil {
		return err
	}
	defer unlock()
	if err := makeDirectories(j.espDir()); err != nil {
		return err
	}
	if err := m.Prepare(); err != nil {
		return err
	}
	if err := j.forget(); err != nil {
		return err
	}
	found, err := m.CheckMedium(ctx, j.Medium, j.plan.Origin)
	if err != nil {
		return err
	}
	plan, err := m.PlanStage(ctx, found, j.p)
	if err != nil {
		return err
	}
	if plan.Image != j.plan.Release.Image || plan.Release != j.plan.Release.Document {
		plan.Discard()
		return fmt.Errorf("the medium holds %s now, and %s was planned: it was changed meanwhile", plan.ID, j.plan.Release.ID)
	}
	if err := m.Stage(ctx, plan, j.p); err != nil {
		return err
	}
	if j.plan.Mode != KeepVar {
		return nil
	}
	sweep, err := m.Store.PlanSweep(ctx, []verity.Digest{plan.Image})
	if err != nil {
		return err
	}
	return m.Store.Sweep(ctx, sweep)
}

// forget removes the deployments of the system that was there before, with their
// /etc. Objects stay where they are: those of the new image need not be copied.
func (j *job) forget() error {
	s := j.machine.Store
	survey, err := s.Survey()
	if err != nil {
		return err
	}
	for _, d := range survey.Deployments {
		if err := s.RemoveDeployment(d.Image); err != nil {
			return err
		}
	}
	for _, d := range survey.Broken {
		if err := s.RemoveDeployment(d.Image); err != nil {
			return err
		}
	}
	if err := os.Remove(s.UnsealedMarker()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := s.CancelReset(); err != nil {
		return err
	}
	return history.Tally{}.Write(s.Dir)
}

func (j *job) settings(context.Context) error {
	if err := j.vars.write(j.machine.Store); err != nil {
		return err
	}
	upper := j.machine.Store.EtcUpper(j.plan.Release.Image)
	return j.writeSettings(j.plan, upper, j.varDir())
}

// verify mounts the disk anew, so that nothing is in memory that is not on the
// disk, and reads every byte of the image and of its objects.
func (j *job) verify(ctx context.Context) error {
	if err := j.unmount(); err != nil {
		return err
	}
	if err := j.mount(ctx); err != nil {
		return err
	}
	if err := j.vars.verify(j.machine.Store); err != nil {
		return err
	}
	state, err := j.machine.Look()
	if err != nil {
		return err
	}
	if state.Next == nil {
		return errors.New("nothing would boot from the disk")
	}
	image, signed := state.Next.Image, j.plan.Release.Image // one as the boot file on the disk names it
	read, err := j.machine.Store.Verify(ctx, []verity.Digest{image}, j.p)
	if err != nil {
		return err
	}
	if len(read.Damaged) > 0 {
		bad := read.Damaged[0]
		return fmt.Errorf("the %s %s on the disk is not what was written (%s), and so are %d others: the disk is bad", bad.Kind, bad.Digest.Short(), bad.Reason, len(read.Damaged)-1)
	}
	dep := state.Of(image)
	switch {
	case image != signed:
		return fmt.Errorf("what would boot from the disk is the image %s, and %s is signed", image.Short(), signed.Short())
	case dep == nil || dep.Release != j.plan.Release.Document:
		return fmt.Errorf("the disk has no deployment of the release that is signed")
	}
	if err := j.machine.CheckBootFile(dep); err != nil {
		return err
	}
	j.report.Verified = &Verified{Image: image, Signed: signed, Equal: image == signed, Objects: read.Objects, Bytes: read.Bytes}
	return nil
}

// finish writes the history and the report, then the loader, tells the firmware, and
// adds to the report what that said.
func (j *job) finish(context.Context) error {
	s := j.machine.Store
	if err := history.Append(s.Dir, history.Event{
		Kind: history.Installed, Image: j.plan.Release.Image, ID: j.plan.Release.ID, By: "installer", Why: "from a medium, to " + j.plan.Disk.ID,
	}); err != nil {
		return err
	}
	if err := j.report.write(j.varDir()); err != nil {
		return err
	}
	// Directories were made for the report, and their names are nobody's to flush.
	for _, dir := range []string{j.rootDir(), j.varDir()} {
		if err := syncFS(dir); err != nil {
			return err
		}
	}
	if err := j.writeLoader(); err != nil {
		return err
	}
	j.report.BootEntry = j.bootEntry()
	j.report.Finished = j.now().UTC().Truncate(1e9)
	return j.report.write(j.varDir())
}

// bootEntry tells the firmware. Where it cannot be told, the path that every
// firmware tries by itself leads to the loader too, so that is no error.
func (j *job) bootEntry() string {
	if !hasVariables(j.System) {
		return "the firmware has no variables; it finds the loader at EFI/BOOT/BOOTX64.EFI"
	}
	if err := enter(j.System, "Ashlar "+j.plan.answers.System.Hostname, j.plan.Partitions[0], j.dev.sector, j.oldESP); err != nil {
		return fmt.Sprintf("the firmware took none (%v); it finds the loader at EFI/BOOT/BOOTX64.EFI", err)
	}
	return "written, and first"
}
