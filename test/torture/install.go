package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/machine/install"
	"github.com/ashlar-os/ashlar/internal/registry"
	"github.com/ashlar-os/ashlar/internal/vmtest"
	"github.com/ashlar-os/ashlar/internal/vmtest/ext4"
	"github.com/ashlar-os/ashlar/internal/vmtest/fat32"
	"github.com/ashlar-os/ashlar/internal/vmtest/writelog"
	"github.com/ashlar-os/ashlar/test/fixture"
)

// installed is the release of the medium.
const installed = "1.0.0"

// installAnswers install to the machine's disk, whatever a cut has left on it.
const installAnswers = `schema = 1
then = "poweroff"
[disk]
id = "virtio-disk"
erase = "virtio-disk"
[system]
hostname = "cut"
[user]
name = "ada"
password = "secret words"
`

// installedDisk is the size of the disk that is installed to.
const installedDisk = 4 << 30

// installSteps are what an installation tells the console, in this order.
var installSteps = []string{
	"preparing the disk", "mounting", "copying the system", "writing the settings", "reading everything back", "making the disk bootable",
}

// RecordInstall starts a machine from an install medium, which installs to a blank disk
// and turns the machine off. Everything is kept in dir. The disk is a virtio one: to an
// NVMe drive Linux writes with FUA instead of flushing, and QEMU 7.2's forgets to tell the log.
func RecordInstall(ctx context.Context, fx *fixture.Fixture, dir string) (*Recording, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	rec := &Recording{
		Base: filepath.Join(dir, "blank.raw"), Medium: filepath.Join(dir, "medium.iso"), After: filepath.Join(dir, "installed.raw"),
		Images: make(map[string]string), UKIs: make(map[string]string),
	}
	if err := errors.Join(os.WriteFile(rec.Base, nil, 0o644), os.Truncate(rec.Base, installedDisk)); err != nil {
		return nil, err
	}
	if err := rec.writeMedium(ctx, fx, dir); err != nil {
		return nil, err
	}
	vm, err := vmtest.Create(ctx, vmtest.Config{
		Name: "recorded", Dir: filepath.Join(dir, "recorded"), Base: rec.Base, Closed: true, Offline: true, Record: true,
		Others: []vmtest.Disk{{Image: rec.Medium, Boot: true}},
	})
	if err != nil {
		return nil, err
	}
	defer vm.Close()
	r := &recorder{ctx: ctx, vm: vm, fx: fx, rec: rec}
	if r.installation(); r.err != nil {
		return nil, fmt.Errorf("recording an installation: %w (console: %s)", r.err, vm.Log)
	}
	rec.Logs = vm.Recording()
	if err := vm.Snapshot(ctx, rec.After); err != nil {
		return nil, err
	}
	if err := rec.compare(rec.After); err != nil {
		return nil, err
	}
	return rec, rec.write(filepath.Join(dir, "recording.json"))
}

// writeMedium makes a release and an install medium of it, with answers.
func (rec *Recording) writeMedium(ctx context.Context, fx *fixture.Fixture, dir string) error {
	out, signed, answers := filepath.Join(dir, "out"), filepath.Join(dir, "signed"), filepath.Join(dir, "answers.toml")
	if err := errors.Join(os.RemoveAll(out), os.RemoveAll(signed)); err != nil {
		return err
	}
	if _, err := fx.BuildMedium(ctx, "cuts", out, filepath.Join(dir, "unsigned.iso")); err != nil {
		return err
	}
	repo, tag, err := registry.Open("oci:"+out+":"+installed, registry.Options{})
	if err != nil {
		return err
	}
	release, err := repo.ReadRelease(ctx, tag)
	if err != nil {
		return err
	}
	rec.Images[installed] = release.Document.Root().Digest.String()
	rec.UKIs[installed] = release.Document.UKI.SHA256
	if err := os.WriteFile(answers, []byte(installAnswers), 0o600); err != nil {
		return err
	}
	if _, err := fx.Ashlar(ctx, "publish", out+":"+installed, "oci:"+signed, "--channel", "stable", "--keys", fx.KeysDir()); err != nil {
		return err
	}
	_, err = fx.Ashlar(ctx, "media", "write", signed, "--root", filepath.Join(fx.KeysDir(), "root.json"), "--answers", answers, "-o", rec.Medium)
	return err
}

// installation is the medium's life. Nothing boots, or the new system, until it is said
// to be installed.
func (r *recorder) installation() {
	either := []string{nothing, installed}
	r.phaseFrom(vmtest.Position{}, "start of the medium", Nothing, either, nil)
	r.do("turning it on", func() error { return r.vm.Start(r.ctx) })
	for _, step := range installSteps {
		r.do(step, func() error {
			_, err := r.vm.WaitConsole(r.ctx, `ashlar-install: `+step)
			return err
		})
		r.phase(step, Installing, either, nil)
	}
	r.do("installing", func() error {
		_, err := r.vm.WaitConsole(r.ctx, `ashlar-install: Installed server-`+installed)
		return err
	})
	r.phase(installed+" is installed", Nothing, []string{installed}, nil)
	r.do("turning off", func() error { return r.vm.Wait(r.ctx) })
}

// nothing is the version of a disk that firmware passes over.
const nothing = ""

// tableView is what the partition table of a disk says.
type tableView struct {
	there bool // it has the partitions that it has in the end, by the table or its backup
	good  bool // and sgdisk finds nothing wrong
}

// openInstall finds the partitions that the disk has in the end, and the loader that it
// has then.
func (j *Judge) openInstall(ctx context.Context, dir string) error {
	table, err := os.Create(filepath.Join(dir, "table.raw"))
	if err != nil {
		return err
	}
	j.table = table
	if err := table.Truncate(j.replay.Size()); err != nil {
		return err
	}
	after, err := os.Open(j.After)
	if err != nil {
		return err
	}
	defer after.Close()
	files, err := fat32.Open(io.NewSectionReader(after, j.esp.At, j.esp.Length))
	if err != nil {
		return err
	}
	return j.readFixed(files)
}

// lookTable reads the present partition table.
func (j *Judge) lookTable(ctx context.Context) (*tableView, error) {
	const size = 1 << 20
	sections := []writelog.Section{{Length: size}, {At: j.replay.Size() - size, Length: size}}
	key := j.replay.Key(sections[0]) + " " + j.replay.Key(sections[1])
	if v := j.tableSeen[key]; v != nil {
		return v, nil
	}
	b := make([]byte, size)
	for _, s := range sections {
		if _, err := j.replay.Section(s).ReadAt(b, 0); err != nil {
			return nil, &Trouble{err}
		}
		if _, err := j.table.WriteAt(b, s.At); err != nil {
			return nil, &Trouble{err}
		}
	}
	v := &tableView{there: true}
	for i, want := range []writelog.Section{j.esp.Section, j.root.Section} {
		at, length, err := vmtest.Partition(ctx, j.table.Name(), i+1) // an error: there is no table
		if ctx.Err() != nil {
			return nil, &Trouble{ctx.Err()}
		}
		if err != nil || at != want.At || length != want.Length {
			v.there = false
		}
	}
	if v.there {
		code, said, err := run(ctx, "sgdisk", "-v", j.table.Name())
		if err != nil {
			return nil, err
		}
		v.good = code == 0 && strings.Contains(said, "No problems found")
	}
	j.Report.Tables++
	j.tableSeen[key] = v
	return v, nil
}

// lookInstall judges a disk that a cut left of an installation: either nothing of it
// boots, or all of the new system.
func (j *Judge) lookInstall(ctx context.Context, c writelog.Cut) error {
	table, err := j.lookTable(ctx)
	if err != nil {
		return err
	}
	esp, err := j.lookESP(ctx)
	if err != nil {
		return err
	}
	d := j.Demands(c)
	violation := func(err error) error {
		j.Report.Violations++
		return fmt.Errorf("%v, in the phase %q: %w", c, d.Phase, err)
	}
	if table.there && !table.good {
		j.Report.Halves++
	}
	if esp.err != nil {
		return violation(fmt.Errorf("the ESP: %w", esp.err))
	}
	if !table.there || esp.nothing {
		j.Report.Passed++
		if err := judgeNothing(d, table); err != nil {
			return violation(err)
		}
		return j.lookMounted(ctx, c, violation)
	}
	root, err := j.lookRoot(ctx)
	if err != nil {
		return err
	}
	j.Report.Bootable++
	if err := judge(d, j.version(esp.image), esp, root); err != nil {
		return violation(err)
	}
	return nil
}

func judgeNothing(d Demand, table *tableView) error {
	if slices.Contains(d.Boots, nothing) {
		return nil
	}
	return fmt.Errorf("nothing boots, want one of %q (a partition table: %t)", d.Boots, table.there)
}

// rootEvery is of how many epochs before there is a loader the root partition is checked
// in one.
const rootEvery = 16

// lookMounted sees that a root partition on which something is installed can be mounted.
func (j *Judge) lookMounted(ctx context.Context, c writelog.Cut, violation func(error) error) error {
	mounted := slices.IndexFunc(j.Phases, func(p Phase) bool { return p.Name == "copying the system" })
	if from, _ := j.log.At(c); from < j.positions[mounted] || c.Epoch%rootEvery != 0 {
		return nil
	}
	root, err := j.lookRoot(ctx)
	if err != nil {
		return err
	}
	if !root.torn && root.err != nil {
		return violation(fmt.Errorf("the root partition: %w", root.err))
	}
	return nil
}

// loaderView says which loader firmware finds on an ESP where a system is being installed.
func (j *Judge) loaderView(files *fat32.FS, v *espView) error {
	v.nothing = true
	for _, name := range fixedFiles[:2] {
		file := files.Lookup(name)
		if file == nil || file.Size == 0 {
			continue // firmware refuses an empty file
		}
		b, err := file.Shared()
		if err != nil || !bytes.Equal(b, j.fixed[name]) {
			return fmt.Errorf("%q is there and not whole: %w", name, err)
		}
		v.nothing = false
		v.fallback = v.fallback || name == fixedFiles[0]
	}
	return nil
}

// settled sees that an installed root partition has the answers in it, and the report.
func settled(disk *ext4.FS, image string) error {
	b, err := readFile(disk, "/ashlar/deployments/"+image+"/etc/hostname")
	if err != nil || string(b) != "cut\n" {
		return fmt.Errorf("the host name is %q: %w", b, err)
	}
	if b, err = readFile(disk, "/ashlar/deployments/"+image+"/etc/passwd"); err != nil || !bytes.Contains(b, []byte("\nada:x:1000:")) {
		return fmt.Errorf("the user is not in %q: %w", b, err)
	}
	if b, err = readFile(disk, "/ashlar"+install.ReportPath); err != nil {
		return err
	}
	var report install.Report
	if err := json.Unmarshal(b, &report); err != nil || report.Verified == nil || !report.Verified.Equal {
		return fmt.Errorf("the report is %q: %w", b, err)
	}
	return nil
}

// Reinstall turns a machine on that has the disk of a cut, on which firmware finds nothing,
// and the medium behind it in the firmware's order. It must install again, and the disk must
// start what it has installed.
func (rec *Recording) Reinstall(ctx context.Context, c writelog.Cut, dir string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*bootLimit)
	defer cancel()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	disk := filepath.Join(dir, "cut.raw")
	defer func() { err = errors.Join(err, os.Remove(disk)) }()
	if err := rec.writeDisk(c, disk); err != nil {
		return err
	}
	vm, err := vmtest.Create(ctx, vmtest.Config{
		Name: "again", Dir: dir, Base: disk, Closed: true, Offline: true,
		Others: []vmtest.Disk{{Image: rec.Medium, Last: true}},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, vm.Close()) }()
	if err := vm.Start(ctx); err != nil {
		return err
	}
	if _, err := vm.WaitConsole(ctx, `ashlar-install: Installed server-`+installed); err != nil {
		return err
	}
	if err := vm.Wait(ctx); err != nil {
		return err
	}
	if err := vm.Boot(ctx); err != nil { // the disk is the first in the firmware's order
		return err
	}
	return rec.expectInstalled(ctx, vm)
}

// expectInstalled sees that a machine has come up with what was installed, and that every
// byte of it verifies.
func (rec *Recording) expectInstalled(ctx context.Context, vm *vmtest.VM) error {
	if err := expectUp(ctx, vm, Demand{Boots: []string{installed}}); err != nil {
		return fmt.Errorf("%w (console: %s)", err, vm.Log)
	}
	got, err := vm.Output(ctx, `hostname; id -un 1000; stat -c %U:%a /home/ada; ashlar verify >/dev/null && echo whole`)
	if err != nil {
		return err
	}
	if want := "cut\nada\nada:700\nwhole"; got != want {
		return fmt.Errorf("the machine says %q, want %q (console: %s)", got, want, vm.Log)
	}
	left, err := vm.Output(ctx, `find /efi /var/log/ashlar /var/home -name '*.ashlar-partial' -o -name '*.new' -o -name '.tmp-*'`)
	if err != nil {
		return err
	}
	if left != "" {
		return fmt.Errorf("left over are %q (console: %s)", left, vm.Log)
	}
	return nil
}
