package install

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/machine/crashtest"
)

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
