package install

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/crashtest"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// TestMain lets this program be an installation of its own, which can be recorded.
func TestMain(m *testing.M) {
	if os.Args[0] != "install" {
		os.Exit(m.Run())
	}
	if err := playInstall(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// play is an installation with directories for mounted file systems. Everything else
// is as on a computer: the disk, its table, and what mkfs writes to its partitions.
type play struct {
	Medium      update.Medium
	Running     verity.Digest
	Root        []byte
	Work        string
	Answers     *Answers
	Disk        Disk
	LoaderFirst bool // a mistake: the loader goes to the ESP as soon as that is there
}

func playInstall(name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	p := new(play)
	if err := json.Unmarshal(b, p); err != nil {
		return err
	}
	return p.run()
}

func (p *play) run() error {
	in := &Installer{Medium: p.Medium, Running: p.Running, Root: p.Root, Work: p.Work, System: p.Work, Sealer: store.Software}
	plan, err := in.Plan(context.Background(), p.Answers, []Disk{p.Disk})
	if err != nil {
		return err
	}
	dir := filepath.Join(in.Work, "esp")
	in.esp = fileSystem{"directory", func(ctx context.Context, dev string) error {
		list, err := os.ReadDir(dir)
		for _, e := range list {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
		return errors.Join(err, formatESP(ctx, dev))
	}}
	early := p.LoaderFirst
	in.mounts = mounts{
		func(_, at, _ string) error {
			if at != dir || !early {
				return nil
			}
			early = false
			return errors.Join(makeDirectories(dir), writeESP(dir, loaderFiles[1], plan.loader))
		},
		func(string) error { return nil },
	}
	_, err = in.Run(context.Background(), plan, nil)
	return err
}

// cutBench is a bench whose file systems are directories.
type cutBench struct {
	*bench
	old *updatetest.Release // on the disk before; nil: none
	// espBefore has the files of the ESP before, by their paths.
	espBefore map[string]string
}

const cutDiskSize = 4 << 30

func (b *cutBench) dir(name string) string { return filepath.Join(b.in.Work, name) }

func (b *cutBench) play(a *Answers, disk Disk) *play {
	return &play{Medium: b.in.Medium, Running: b.in.Running, Root: b.in.Root, Work: b.in.Work, Answers: a, Disk: disk}
}

// record runs an installation as a process of its own.
func (b *cutBench) record(p *play) (*crashtest.Log, *crashtest.Blocks) {
	b.t.Helper()
	text, err := json.Marshal(p)
	b.must(err)
	name := filepath.Join(b.t.TempDir(), "play.json")
	b.must(os.WriteFile(name, text, 0o600))
	self, err := os.Executable()
	b.must(err)
	cmd := &exec.Cmd{Path: self, Args: []string{"install", name}, Stderr: os.Stderr, Env: append(os.Environ(), "GOMAXPROCS=2")}
	log, blocks, code := crashtest.RecordDisk(b.t, cmd, b.in.Work, p.Disk.Path, looked...)
	if code != 0 {
		b.t.Fatalf("the installation ended with %d", code)
	}
	return log, blocks
}

// looked is what is looked at of a disk, as the installer divides one: the tables, the
// ESP, and the beginning of the root partition.
var (
	espSection = crashtest.Section{At: alignment, Length: espSize}
	rootHead   = crashtest.Section{At: alignment + espSize, Length: mib}
	looked     = []crashtest.Section{
		{At: 0, Length: alignment}, espSection, rootHead, {At: cutDiskSize - mib, Length: mib},
	}
)

// scenes are disks that are installed to. Each returns the answers.
var scenes = map[string]func(b *cutBench, disk *Disk) *Answers{
	"blank": func(_ *cutBench, disk *Disk) *Answers {
		a := answers()
		a.Disk = DiskAnswer{ID: disk.ID, Erase: disk.ID}
		return a
	},
	"an Ashlar is erased": func(b *cutBench, disk *Disk) *Answers {
		b.install1(disk)
		a := answers()
		a.Disk = DiskAnswer{ID: disk.ID, Erase: disk.ID}
		return a
	},
	"var is kept": func(b *cutBench, disk *Disk) *Answers {
		b.install1(disk)
		a := answers()
		a.Disk = DiskAnswer{ID: disk.ID, KeepVar: true}
		a.User.SSHKeys = []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOthernewkeyothernewkeyothernewkeyother ada@other"}
		return a
	},
	"var is kept, for somebody else": func(b *cutBench, disk *Disk) *Answers {
		b.install1(disk)
		a := answers()
		a.Disk = DiskAnswer{ID: disk.ID, KeepVar: true}
		a.User.Name = "bob"
		return a
	},
}

// install1 puts 1.0.0 on the disk, uses it, and inserts the medium of 2.0.0.
func (b *cutBench) install1(disk *Disk) {
	b.t.Helper()
	a := answers()
	a.Disk.ID = disk.ID
	b.must(b.play(a, *disk).run())
	disk.Content = "a partition table with 2 partitions"
	for name, text := range map[string]string{"home/ada/thesis": "years of work\n", "lib/database/table": strings.Repeat("a row\n", 500)} {
		path := filepath.Join(b.dir("root/ashlar/var"), name)
		b.must(os.MkdirAll(filepath.Dir(path), 0o755))
		b.must(os.WriteFile(path, []byte(text), 0o600))
	}
	b.fillESP(disk)
	b.old = b.rel
	b.insert("2.0.0")
}

// fillESP writes what the ESP's directory holds to the ESP itself, by mtools, behind a
// large file, so that it is not only at the front.
func (b *cutBench) fillESP(disk *Disk) {
	b.t.Helper()
	drive := fmt.Sprintf("%s@@%d", disk.Path, espSection.At)
	large := filepath.Join(b.t.TempDir(), "large")
	b.must(os.WriteFile(large, nil, 0o600))
	b.must(os.Truncate(large, 10<<20))
	b.run("mcopy", "-i", drive, large, "::/large")
	b.espBefore = make(map[string]string)
	b.must(fs.WalkDir(os.DirFS(b.dir("esp")), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || name == ".":
			return err
		case e.IsDir():
			b.run("mmd", "-i", drive, "::/"+name)
			return nil
		}
		text, err := os.ReadFile(filepath.Join(b.dir("esp"), name))
		b.espBefore[name] = string(text)
		b.run("mcopy", "-i", drive, filepath.Join(b.dir("esp"), name), "::/"+name)
		return err
	}))
}

// TestInstallCut records installations and looks at every disk that a power cut may
// leave of them, as package crashtest models that: either firmware finds nothing on it
// to start, or all of the new system boots; or all of the old one, while the disk was
// not begun with. What was in /var and is to be kept is there. From a sample of
// them the medium installs again: it finishes, and leaves nothing behind.
func TestInstallCut(t *testing.T) {
	inMemory(t)
	var total cutCounts
	for name, prepare := range scenes {
		t.Run(name, func(t *testing.T) {
			m := newCutMatrix(t, prepare)
			m.log, m.blocks = m.record(m.p)
			m.enumerate()
			m.runAgain()
			t.Logf("%d operations on file systems, %d on the disk: %v", len(m.log.Ops), len(m.blocks.Ops), m.cutCounts)
			total.add(m.cutCounts)
		})
	}
	t.Logf("all: %v", total)
}

// TestInstallMistakes: an installer that puts the loader on the ESP first, or that
// flushes nothing, is found out.
func TestInstallMistakes(t *testing.T) {
	inMemory(t)
	for name, spoil := range map[string]func(m *cutMatrix){
		"the loader first": func(m *cutMatrix) { m.p.LoaderFirst = true },
		"no flushes":       func(m *cutMatrix) { m.careless = true },
	} {
		t.Run(name, func(t *testing.T) {
			m := newCutMatrix(t, scenes["var is kept"])
			m.quiet = true
			spoil(m)
			m.log, m.blocks = m.record(m.p)
			m.enumerate()
			t.Logf("%v", m.cutCounts)
			if m.violations == 0 {
				t.Error("it passes")
			}
		})
	}
}

// cutCounts is what is reported.
type cutCounts struct {
	disks, stores, esps int // states of the disk below the file systems, and of each of these
	states, violations  int // of the whole disk
	oldBoots            int // what firmware finds
	nothing, newBoots   int
	reruns, cleared     int // states from which it was installed again, or cleared up
}

func (c *cutCounts) add(o cutCounts) {
	c.disks, c.stores, c.esps = c.disks+o.disks, c.stores+o.stores, c.esps+o.esps
	c.states, c.violations = c.states+o.states, c.violations+o.violations
	c.oldBoots, c.nothing, c.newBoots = c.oldBoots+o.oldBoots, c.nothing+o.nothing, c.newBoots+o.newBoots
	c.reruns, c.cleared = c.reruns+o.reruns, c.cleared+o.cleared
}

func (c cutCounts) String() string {
	return fmt.Sprintf("%d states (%d while the disk is made, %d of the root file system, %d of the ESP), %d violations; the old system boots in %d, nothing in %d, the new one in %d; installed again from %d, cleared up in %d",
		c.states, c.disks, c.stores, c.esps, c.violations, c.oldBoots, c.nothing, c.newBoots, c.reruns, c.cleared)
}

// cutMatrix is the states of one installation.
type cutMatrix struct {
	*cutBench
	cutCounts
	p        *play
	log      *crashtest.Log
	blocks   *crashtest.Blocks
	careless bool // nothing was flushed
	quiet    bool // violations are counted only

	store, partition *crashtest.Log
	final            *crashtest.Tree // of the root file system
	whole            map[*crashtest.Tree]error
	samples          map[string]bool
	reinstall, clear []cutDisk // samples: what is installed again, what is cleared up
}

// cutDisk is one state.
type cutDisk struct {
	raw  crashtest.Image // the disk below file systems, without what ESP says
	esp  crashtest.Image // nil: the one in raw
	tree *crashtest.Tree // below root/ is the root file system
}

// inMemory has a test's directories in memory, where there is some: an installation
// that is recorded waits for the disk at every flush, and nobody cuts its power.
func inMemory(t *testing.T) {
	const memory, room = "/dev/shm", 1 << 30
	var st unix.Statfs_t
	if err := unix.Statfs(memory, &st); err == nil && int64(st.Bavail)*st.Bsize > room {
		t.Setenv("TMPDIR", memory)
	}
}

func newCutMatrix(t *testing.T, prepare func(*cutBench, *Disk) *Answers) *cutMatrix {
	b := &cutBench{bench: newBench(t)}
	disk := b.disk("a")
	for _, dir := range []string{"root", "esp"} {
		b.must(os.MkdirAll(b.dir(dir), 0o755))
	}
	a := prepare(b, &disk)
	b.makeEmpty("esp")
	if !a.Disk.KeepVar {
		b.makeEmpty("root")
	}
	return &cutMatrix{cutBench: b, p: b.play(a, disk), whole: make(map[*crashtest.Tree]error), samples: make(map[string]bool)}
}

func (b *cutBench) makeEmpty(name string) {
	b.t.Helper()
	b.must(os.RemoveAll(b.dir(name)))
	b.must(os.Mkdir(b.dir(name), 0o755))
}

func (m *cutMatrix) enumerate() {
	if m.careless {
		forget := func(l *crashtest.Log) {
			for i, op := range l.Ops {
				if op.Kind == crashtest.Fsync || op.Kind == crashtest.Syncfs {
					l.Ops[i] = crashtest.Op{}
				}
			}
		}
		forget(m.log)
		m.blocks.Ops = slices.DeleteFunc(m.blocks.Ops, func(op crashtest.BlockOp) bool { return op.Data == nil })
	}
	m.partition, m.store = m.log.Split("esp")
	_, m.final = m.store.At(len(m.log.Ops))

	last := -1
	var trees []*crashtest.Tree
	m.blocks.Cuts(1, func(done int, image crashtest.Image) {
		if done != last {
			last = done
			least, most := m.store.At(done)
			trees = []*crashtest.Tree{least, most}
			clear(m.whole)
		}
		m.disks++
		for _, tree := range trees {
			m.check(done, cutDisk{raw: image, tree: tree}, "while the disk is made")
		}
	})
	clear(m.whole)
	if m.blocks.Waits() && !m.careless {
		m.t.Error("the disk is not flushed before file systems are mounted")
	}
	if m.old == nil || m.p.Answers.Disk.KeepVar { // from here on an erased disk is as good as a blank one
		m.fileSystems()
	}
}

// fileSystems looks at what happens once they are there.
func (m *cutMatrix) fileSystems() {
	raw := m.blocks.After()
	before := raw.Section(espSection)
	vfat := crashtest.NewVFAT(m.t, before)
	before = vfat.Image()
	for i, op := range m.partition.Ops {
		if op.Kind != "" {
			vfat.Do(i+1, op.Below("esp"))
		}
	}
	if m.careless { // all that may be left is without number: of each file system all or nothing
		for cut := range len(m.log.Ops) + 1 {
			leastESP, mostESP := vfat.At(before, cut)
			least, most := m.store.At(cut)
			for _, d := range []cutDisk{{raw, leastESP, least}, {raw, leastESP, most}, {raw, mostESP, least}, {raw, mostESP, most}} {
				m.check(cut, d, "")
			}
			clear(m.whole)
		}
		return
	}
	last := -1
	var images []crashtest.Image
	m.store.Trees(1, func(cut int, tree *crashtest.Tree) {
		m.stores++
		if cut != last {
			last = cut
			least, most := vfat.At(before, cut)
			images = []crashtest.Image{least, most}
		}
		for _, image := range images {
			m.check(cut, cutDisk{raw, image, tree}, "")
		}
		clear(m.whole)
	})
	esps := func(how string) func(int, crashtest.Image) {
		last := -1
		var trees []*crashtest.Tree
		return func(cut int, image crashtest.Image) {
			m.esps++
			if cut != last {
				last = cut
				least, most := m.store.At(cut)
				trees = []*crashtest.Tree{least, most}
				clear(m.whole)
			}
			for _, tree := range trees {
				m.check(cut, cutDisk{raw, image, tree}, how)
			}
		}
	}
	vfat.Sectors(before, len(m.log.Ops), 1, esps(""))
	vfat.InOrder(before, esps("in order"))
}

// check looks at one state.
func (m *cutMatrix) check(cut int, d cutDisk, how string) {
	m.states++
	boots, err := m.judge(d)
	switch {
	case err != nil:
		m.violations++
	case boots == "":
		m.nothing++
	case boots == "old":
		m.oldBoots++
	default:
		m.newBoots++
	}
	switch {
	case m.quiet || err != nil && m.violations > 5:
		return
	case err == nil:
		m.sample(d, boots)
		return
	}
	done := "the end"
	if cut < len(m.log.Ops) {
		done = m.log.Ops[cut].String()
	}
	m.t.Errorf("cut %d, before %s %s: %v", cut, done, how, err)
}

// judge says what boots from a disk: "", "old" or "new".
func (m *cutMatrix) judge(d cutDisk) (boots string, err error) {
	if err := m.kept(d.tree); err != nil {
		return "", err
	}
	list := []crashtest.Image{d.esp}
	if d.esp == nil {
		list = nil
		for _, s := range d.raw.ESPs(cutDiskSize) {
			list = append(list, d.raw.Section(s))
		}
	}
	for _, image := range list {
		which, err := m.loaders(image)
		if err != nil {
			return "", err
		}
		if which == "" {
			continue
		}
		if which == "old" {
			err = m.untouched(d, image)
		} else {
			err = m.complete(d.tree, image)
		}
		if err != nil {
			return "", fmt.Errorf("firmware finds the %s loader: %w", which, err)
		}
		boots = which
	}
	return boots, nil
}

// loaders says whose loader firmware finds on an ESP. An empty file is none: firmware
// refuses it and goes on.
func (m *cutMatrix) loaders(image crashtest.Image) (which string, err error) {
	for _, name := range loaderFiles {
		f := image.Find(name)
		if f == nil || f.Err == nil && len(f.Data) == 0 {
			continue
		}
		this := ""
		switch text := string(f.Data); {
		case f.Err != nil:
			return "", fmt.Errorf("%q is there and cannot be read: %w", name, f.Err)
		case text == "the loader "+m.rel.Version:
			this = "new"
		case m.old != nil && text == "the loader "+m.old.Version:
			this = "old"
		default:
			return "", fmt.Errorf("%q is there with other %d bytes: %.20q", name, len(text), text)
		}
		if which != "" && which != this {
			return "", errors.New("one loader is the old one and the other is new")
		}
		which = this
	}
	return which, nil
}

// complete sees that the loader starts the new release, which is whole, and that
// everything else is there that is there in the end: settings, the home directory, what
// was accepted of signatures, the history.
func (m *cutMatrix) complete(tree *crashtest.Tree, image crashtest.Image) error {
	if err := startsFrom(image, tree, m.rel); err != nil {
		return err
	}
	err, known := m.whole[tree]
	if !known {
		err = m.asInTheEnd(tree)
		m.whole[tree] = err
	}
	return err
}

func (m *cutMatrix) asInTheEnd(tree *crashtest.Tree) error {
	if err := updatetest.Whole(mounted{tree: tree}, m.rel.Image()); err != nil {
		return err
	}
	return m.final.Walk(func(name string, want *crashtest.Node) error {
		if want.Dir || want.Target != "" {
			return nil
		}
		b, err := tree.ReadFile(name)
		switch {
		case err != nil:
			return err
		case path.Base(name) == "install.json":
			return whole(name, b)
		case !bytes.Equal(b, want.Data):
			return fmt.Errorf("%q is not whole", name)
		}
		return nil
	})
}

// startsFrom sees that the loader starts a release.
func startsFrom(image crashtest.Image, tree *crashtest.Tree, rel *updatetest.Release) error {
	file, next, err := updatetest.Choice(mounted{image, tree})
	switch {
	case err != nil:
		return err
	case file == "":
		return errors.New("it has nothing to start")
	case next != rel.Image():
		return fmt.Errorf("it starts %s (%q)", next.Short(), file)
	}
	if f := image.Find("EFI/Linux/" + file); f == nil || f.Err != nil || !bytes.Equal(f.Data, rel.UKI) {
		return fmt.Errorf("%q, which it starts, is not whole", file)
	}
	if f := image.Find("loader/loader.conf"); f == nil || f.Err != nil || string(f.Data) != loaderConf {
		return errors.New("loader.conf is not whole")
	}
	return nil
}

// whole reads a report.
func whole(name string, b []byte) error {
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return fmt.Errorf("%q is not whole: %w", name, err)
	}
	return nil
}

// untouched sees that an old system is whole: its ESP is as it was, and its root
// partition, or what is in that, likewise.
func (m *cutMatrix) untouched(d cutDisk, image crashtest.Image) error {
	for name, text := range m.espBefore {
		if f := image.Find(name); f == nil || f.Err != nil || string(f.Data) != text {
			return fmt.Errorf("%q is not as it was", name)
		}
	}
	if m.p.Answers.Disk.KeepVar {
		err, known := m.whole[d.tree]
		if !known {
			err = updatetest.Whole(mounted{tree: d.tree}, m.old.Image())
			m.whole[d.tree] = err
		}
		return err
	}
	now, before := d.raw.Section(rootHead), m.blocks.Before.Section(rootHead)
	for sector := range uint32(rootHead.Length / 512) {
		if a, b := now[sector], before[sector]; a != b && (a == nil || b == nil || *a != *b) {
			return errors.New("the root partition is not as it was")
		}
	}
	return nil
}

// kept sees that what is kept of /var is there.
func (m *cutMatrix) kept(tree *crashtest.Tree) error {
	if !m.p.Answers.Disk.KeepVar {
		return nil
	}
	return m.log.Before.Walk(func(name string, want *crashtest.Node) error {
		if !strings.HasPrefix(name, "root/ashlar/var/") || want.Dir {
			return nil
		}
		b, err := tree.ReadFile(name)
		switch {
		case err != nil:
			return fmt.Errorf("%q is lost", name)
		case path.Base(name) == "install.json":
			return whole(name, b)
		case path.Base(name) == "authorized_keys" && bytes.HasPrefix(b, want.Data):
			return nil
		case !bytes.Equal(b, want.Data):
			return fmt.Errorf("%q is not as it was", name)
		}
		return nil
	})
}

// mounted is a disk as updatetest reads it.
type mounted struct {
	esp  crashtest.Image
	tree *crashtest.Tree
}

func (d mounted) ReadFile(name string) ([]byte, error) {
	if file, ok := strings.CutPrefix(name, "efi/"); ok {
		if f := d.esp.Find(file); f != nil {
			return f.Data, nil
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return d.tree.ReadFile(strings.Replace(name, "sysroot/", "root/", 1))
}

func (d mounted) List(dir string) (names []string) {
	if file, ok := strings.CutPrefix(dir, "efi/"); ok {
		list, _ := d.esp.List(file) // what cannot be listed has nothing to boot
		for _, f := range list {
			names = append(names, f.Name)
		}
		return names
	}
	return d.tree.List(strings.Replace(dir, "sysroot/", "root/", 1))
}
