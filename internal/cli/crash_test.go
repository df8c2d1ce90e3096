package cli

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/crashtest"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// TestCrashMatrix records what each verb does to the disk and looks at every
// state that a power cut may leave of it, as package crashtest models that. In all
// of them DESIGN §5 must hold: the next boot is what runs, what was staged or what
// is being staged, whole; what runs and what stays is whole, whatever boots; and
// nothing that the machine was given is lost. From a sample of them the verb is run
// again: it must finish, and leave nothing behind.
func TestCrashMatrix(t *testing.T) {
	var total counts
	for name, prepare := range scenes {
		t.Run(name, func(t *testing.T) {
			f, v1 := newFakeMachine(t)
			m := newMatrix(t, f, prepare(f, v1))
			m.run()
			t.Logf("%d operations: %v", m.ops, m.counts)
			total.add(m.counts)
		})
	}
	t.Logf("all: %v", total)
}

// TestBlessingCut is the same for what others do to the ESP, in the order of their
// calls: the loader counts a boot down, systemd-bless-boot takes the counter away
// (src/bless-boot/bless-boot.c: rename, fsync of the directory, syncfs).
func TestBlessingCut(t *testing.T) {
	f, v1 := newFakeMachine(t)
	v2 := f.publish("2.0.0")
	f.ok("staged", "update")
	m := newMatrix(t, f, scene{after: v2})
	m.allowed[v1.Image()] = true
	stem := "efi/EFI/Linux/ashlar_2.0.0_" + v2.Image().String()[:12]
	log := &crashtest.Log{Before: crashtest.Load(t, f.c.Root)}
	for _, names := range [][2]string{{"+3.efi", "+2-1.efi"}, {"+2-1.efi", ".efi"}} {
		log.Ops = append(log.Ops,
			crashtest.Op{Kind: crashtest.Rename, Path: stem + names[0], To: stem + names[1]},
			crashtest.Op{Kind: crashtest.Fsync, Path: "efi/EFI/Linux"},
			crashtest.Op{Kind: crashtest.Syncfs, Path: "efi/EFI/Linux"})
	}
	m.enumerate(log, m.bootFiles(), m.bootFiles())
	t.Logf("%d operations: %v", m.ops, m.counts)
}

// counts is what is reported.
type counts struct {
	stores, esps       int // different states of each file system
	states, violations int // of the whole disk
	lost, double       int // states in which a boot file that stays has no name, or two
	again              int // states from which the verb was run again
}

func (c *counts) add(o counts) {
	c.stores, c.esps = c.stores+o.stores, c.esps+o.esps
	c.states, c.violations = c.states+o.states, c.violations+o.violations
	c.lost, c.double, c.again = c.lost+o.lost, c.double+o.double, c.again+o.again
}

func (c counts) String() string {
	return fmt.Sprintf("%d states of the disk (%d of the store, %d of the ESP), %d violations; a boot file lost in %d, there twice in %d; run again from %d",
		c.states, c.stores, c.esps, c.violations, c.lost, c.double, c.again)
}

// matrix is one verb's states.
type matrix struct {
	counts
	t       *testing.T
	f       *fakeMachine
	s       scene
	running verity.Digest
	allowed map[verity.Digest]bool
	ukis    map[verity.Digest][]byte
	stay    []verity.Digest   // images with a boot file before and after
	kept    map[string]string // what the machine was given: files below the root
	whole   map[wholeKey]error
	ops     int
	samples map[string]disk // by what tells them apart
}

type wholeKey struct {
	tree  *crashtest.Tree
	image verity.Digest
}

func newMatrix(t *testing.T, f *fakeMachine, s scene) *matrix {
	m := &matrix{t: t, f: f, s: s, running: f.c.Running, ukis: make(map[verity.Digest][]byte), whole: make(map[wholeKey]error), samples: make(map[string]disk)}
	m.allowed = map[verity.Digest]bool{f.c.WouldBoot(): true, m.running: true, s.after.Image(): true}
	for _, r := range s.before {
		m.allowed[r.Image()] = true
	}
	etc, err := filepath.Rel(f.c.Root, filepath.Join(f.c.Etc(m.running), "local"))
	must(t, err)
	m.kept = map[string]string{etc: "my settings\n", "sysroot/ashlar/var/lib/precious": "my data\n"}
	for name, text := range m.kept {
		f.write(name, text)
	}
	return m
}

// bootFiles are a computer's boot files by their image.
func (m *matrix) bootFiles() map[verity.Digest][]byte {
	files := make(map[verity.Digest][]byte)
	for _, name := range m.f.c.BootFiles() {
		path := filepath.Join(m.f.c.Root, "efi/EFI/Linux", name)
		uki, err := esp.ReadUKI(path)
		must(m.t, err)
		files[uki.Image], err = os.ReadFile(path)
		must(m.t, err)
	}
	return files
}

func (m *matrix) run() {
	before := m.bootFiles()
	log, code := crashtest.Record(m.t, m.f.process(append(m.s.args, "--quiet")...), m.f.c.Root)
	if code != exitOK {
		m.t.Fatalf("%q ended with %d", m.s.args, code)
	}
	m.f.boots(m.s.after)
	m.enumerate(log, before, m.bootFiles())
	m.runAgain()
}

// enumerate looks at every state of what was recorded, between the boot files
// before and after it.
func (m *matrix) enumerate(log *crashtest.Log, before, after map[verity.Digest][]byte) {
	m.ops = len(log.Ops)
	maps.Copy(m.ukis, before)
	maps.Copy(m.ukis, after)
	for d := range after {
		if before[d] != nil {
			m.stay = append(m.stay, d)
		}
	}

	partition, store := log.Split("efi")
	image, vfat := m.replay(log.Before, partition)
	last := -1
	var images [2]crashtest.Image // of the ESP at the cut
	store.Trees(1, func(cut int, tree *crashtest.Tree) {
		m.stores++
		if cut != last {
			images[0], images[1] = vfat.At(image, cut)
			last = cut
		}
		for _, image := range images {
			m.check(cut, disk{tree, m.list(image), image}, false, log)
		}
		clear(m.whole)
	})
	esps := func(ordered bool) func(int, crashtest.Image) {
		last := -1
		var trees [2]*crashtest.Tree
		return func(cut int, image crashtest.Image) {
			m.esps++
			if cut != last {
				trees[0], trees[1] = store.At(cut)
				last = cut
			}
			boot := m.list(image)
			for _, tree := range trees {
				m.check(cut, disk{tree, boot, image}, ordered, log)
			}
		}
	}
	vfat.Sectors(image, m.ops, 1, esps(false))
	vfat.InOrder(image, esps(true))
}

// espBytes is the least that mkfs.vfat makes a FAT32 of, with clusters of 4 KiB.
const espBytes = 270 << 20

// replay makes the ESP as it was, and does to it what was recorded.
func (m *matrix) replay(before *crashtest.Tree, log *crashtest.Log) (crashtest.Image, *crashtest.VFAT) {
	name := filepath.Join(m.t.TempDir(), "esp")
	if out, err := exec.Command("mkfs.vfat", "-F", "32", "-s", "8", "-C", name, fmt.Sprint(espBytes/1024)).CombinedOutput(); err != nil {
		m.t.Fatalf("mkfs.vfat: %v\n%s", err, out)
	}
	vfat := crashtest.NewVFAT(m.t, crashtest.LoadImage(m.t, name))
	must(m.t, os.Remove(name))
	vfat.Fill(before, "efi")
	image := vfat.Image()
	for i, op := range log.Ops {
		if op.Kind != "" {
			vfat.Do(i+1, op.Below("efi"))
		}
	}
	return image, vfat
}

func (m *matrix) list(image crashtest.Image) map[string]crashtest.File {
	files, err := image.List("EFI/Linux")
	must(m.t, err)
	boot := make(map[string]crashtest.File)
	for _, file := range files {
		boot[file.Name] = file
	}
	return boot
}

// disk is one state: the store, and the boot files of the ESP.
type disk struct {
	*crashtest.Tree
	boot  map[string]crashtest.File
	image crashtest.Image
}

func (d disk) ReadFile(name string) ([]byte, error) {
	if file, ok := strings.CutPrefix(name, "efi/EFI/Linux/"); ok {
		return d.boot[file].Data, nil
	}
	return d.Tree.ReadFile(name)
}

func (d disk) List(dir string) []string {
	if dir == "efi/EFI/Linux" {
		return slices.Sorted(maps.Keys(d.boot))
	}
	return d.Tree.List(dir)
}

// check looks at one state.
func (m *matrix) check(cut int, d disk, ordered bool, log *crashtest.Log) {
	m.states++
	m.sample(d)
	err := m.judge(d, ordered)
	if err == nil {
		return
	}
	if m.violations++; m.violations > 5 {
		return
	}
	done := "the end"
	if cut < len(log.Ops) {
		done = log.Ops[cut].String()
	}
	m.t.Errorf("cut %d, before %s (ordered: %t): %v; boot files %q", cut, done, ordered, err, d.List("efi/EFI/Linux"))
}

func (m *matrix) judge(d disk, ordered bool) error {
	file, next, err := updatetest.Choice(d)
	switch {
	case err != nil:
		return err
	case file == "":
		return errors.New("nothing boots")
	case !m.allowed[next]:
		return fmt.Errorf("%s boots next", next.Short())
	case !bytes.Equal(d.boot[file].Data, m.ukis[next]):
		return fmt.Errorf("%q boots next, and is not whole", file)
	}
	for _, image := range append([]verity.Digest{next, m.running}, m.stay...) {
		key := wholeKey{d.Tree, image}
		err, known := m.whole[key]
		if !known {
			err = updatetest.Whole(d, image)
			m.whole[key] = err
		}
		if err != nil {
			return fmt.Errorf("%s is not whole: %w", image.Short(), err)
		}
	}
	for name, text := range m.kept {
		if b, err := d.ReadFile(name); err != nil || string(b) != text {
			return fmt.Errorf("%q is lost", name)
		}
	}
	if err := m.loaders(d); err != nil {
		return err
	}
	return m.names(d, ordered)
}

// loaders checks the copies of the loader: whole at every cut, the old or the new.
func (m *matrix) loaders(d disk) error {
	for path, allowed := range m.s.copies {
		files, err := d.image.List(filepath.Dir(path))
		if err != nil {
			return err
		}
		at := slices.IndexFunc(files, func(f crashtest.File) bool { return f.Name == filepath.Base(path) })
		if at < 0 || !slices.Contains(allowed, string(files[at].Data)) {
			return fmt.Errorf("the loader %q is not whole", path)
		}
	}
	return nil
}

// names counts how the boot files that stay are to be found. On a drive that
// keeps the order none is ever without a name.
func (m *matrix) names(d disk, ordered bool) error {
	for _, image := range m.stay {
		n := 0
		for _, f := range d.boot {
			if bytes.Equal(f.Data, m.ukis[image]) {
				n++
			}
		}
		switch {
		case n == 0 && ordered:
			return fmt.Errorf("%s has no boot file any more", image.Short())
		case n == 0:
			m.lost++
		case n > 1:
			m.double++
		}
	}
	return nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
