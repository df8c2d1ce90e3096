package torture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/vmtest"
	"github.com/ashlar-os/ashlar/internal/vmtest/fat32"
	"github.com/ashlar-os/ashlar/internal/vmtest/writelog"
)

// Judge looks at the disks that cuts left, in the order of the log. Where two cuts
// left the same of a partition, that is looked at once.
type Judge struct {
	*Recording
	Report Report
	Passed []writelog.Cut // different disks that cannot be started

	log       *writelog.Log
	base      *os.File
	replay    *writelog.Replay
	esp, root *partition
	espSeen   map[string]*espView
	rootSeen  map[string]*rootView
	objects   map[string][]tree.Object // of an image, by its digest
	sealed    map[string]error         // what Measure said of a file, see sealedAs
	fixed     map[string][]byte        // files of the ESP that nothing changes
	positions []int                    // of the phases, in the log
	undoFile  string                   // of e2fsck
	table     *os.File                 // of an installation: the disk, with nothing but its tables
	tableSeen map[string]*tableView
}

// partition is one of the disk, and a file with what the present cut left of it.
type partition struct {
	writelog.Section
	*writelog.Image
}

// Report counts.
type Report struct {
	Epochs      int // spans between two flushes
	Cuts        int // disks looked at
	Distinct    int // disks that differ
	Roots       int // root partitions that differ; each was checked
	ESPs        int // ESPs that differ; likewise
	Violations  int
	Careless    int // disks without the file that was written and not flushed
	Superblocks int // root partitions that ext4 itself does not survive, see superblockTorn
	NoName      int // disks on which a boot file that has to stay had no name
	Dirty       int // ESPs that fsck.vfat would repair

	// Of an installation:
	Tables   int // partition tables that differ
	Halves   int // disks of which only the table or only its backup is whole
	Passed   int // disks on which firmware finds nothing
	Bootable int // disks on which it finds the loader

	install bool
}

func (r Report) String() string {
	if r.install {
		return fmt.Sprintf("%d flush boundaries, %d cuts, %d different disks (%d partition tables, %d ESPs, %d root partitions checked), %d violations; firmware finds nothing on %d and the new system on %d; of the table only a half is whole on %d, ext4's superblock is torn on %d root partitions, fsck.vfat would repair %d ESPs",
			r.Epochs, r.Cuts, r.Distinct, r.Tables, r.ESPs, r.Roots, r.Violations, r.Passed, r.Bootable, r.Halves, r.Superblocks, r.Dirty)
	}
	return fmt.Sprintf("%d flush boundaries, %d cuts, %d different disks (%d root partitions, %d ESPs), %d violations; a file that was not flushed is missing on %d; ext4's superblock is torn on %d, a boot file that has to stay had no name on %d disks, fsck.vfat would repair %d ESPs",
		r.Epochs, r.Cuts, r.Distinct, r.Roots, r.ESPs, r.Violations, r.Careless, r.Superblocks, r.NoName, r.Dirty)
}

// NewJudge opens a recording. Files of the size of the disk are made in dir.
func NewJudge(ctx context.Context, rec *Recording, dir string) (j *Judge, err error) {
	j = &Judge{
		Recording: rec, espSeen: make(map[string]*espView), rootSeen: make(map[string]*rootView),
		objects: make(map[string][]tree.Object), sealed: make(map[string]error), fixed: make(map[string][]byte),
		undoFile: filepath.Join(dir, "undo"), tableSeen: make(map[string]*tableView),
		Report: Report{install: rec.Medium != ""},
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("opening the recording: %w", err), j.Close())
		}
	}()
	if j.log, err = writelog.Open(rec.Logs...); err != nil {
		return j, err
	}
	for _, p := range rec.Phases {
		j.positions = append(j.positions, j.index(p.From))
	}
	if j.base, err = os.Open(rec.Base); err != nil {
		return j, err
	}
	info, err := j.base.Stat()
	if err != nil {
		return j, err
	}
	if j.replay, err = j.log.Replay(j.base, info.Size()); err != nil {
		return j, err
	}
	j.Report.Epochs = j.log.Epochs()
	if code, said, err := run(ctx, "sgdisk", "-v", rec.divided()); err != nil || code != 0 {
		return j, fmt.Errorf("sgdisk finds (%d): %s: %w", code, said, err)
	}
	if j.esp, err = j.open(ctx, 1, filepath.Join(dir, "esp.raw")); err != nil {
		return j, err
	}
	if j.root, err = j.open(ctx, 2, filepath.Join(dir, "root.raw")); err != nil {
		return j, err
	}
	if rec.Medium != "" {
		return j, j.openInstall(ctx, dir)
	}
	files, err := fat32.Open(j.esp)
	if err != nil {
		return j, err
	}
	return j, j.readFixed(files)
}

func (j *Judge) open(ctx context.Context, number int, name string) (*partition, error) {
	at, length, err := vmtest.Partition(ctx, j.divided(), number)
	if err != nil {
		return nil, err
	}
	p := &partition{Section: writelog.Section{At: at, Length: length}}
	p.Image, err = j.replay.NewImage(name, p.Section)
	return p, err
}

// Close removes what NewJudge made.
func (j *Judge) Close() (err error) {
	for _, p := range []*partition{j.esp, j.root} {
		if p != nil && p.Image != nil {
			err = errors.Join(err, p.Image.Close(), os.Remove(p.Name()))
		}
	}
	if j.table != nil {
		err = errors.Join(err, j.table.Close(), os.Remove(j.table.Name()))
	}
	if j.base != nil {
		err = errors.Join(err, j.base.Close())
	}
	if j.log != nil {
		err = errors.Join(err, j.log.Close())
	}
	return err
}

// Cuts lists the cuts of the recording; see writelog.Log.Cuts.
func (j *Judge) Cuts(seed uint64, others int) []writelog.Cut { return j.log.Cuts(seed, others) }

func (j *Judge) index(p vmtest.Position) int { return j.log.Index(p.Log, p.Entries) }

// Demand is what must hold of the disk after a cut.
type Demand struct {
	Phase    string   // in the middle of which it was
	Doing    string   // what Ashlar did in it
	Boots    []string // one of these versions boots next
	Whole    []string
	Promises []Promise
	Settings bool // /etc has this machine's settings
}

// Demands says what must hold after a cut. Where a cut may lie in either of two
// phases, what both allow is allowed.
func (j *Judge) Demands(c writelog.Cut) Demand {
	from, to := j.log.At(c)
	var d Demand
	for i, p := range j.Phases {
		end := j.log.Entries() + 1
		if i+1 < len(j.Phases) {
			end = j.positions[i+1]
		}
		if j.positions[i] > to || end <= from {
			continue
		}
		if d.Phase == "" {
			d.Phase, d.Doing, d.Whole = p.Name, p.Doing, slices.Clone(p.Whole)
		}
		d.Boots = append(d.Boots, p.Boots...)
		d.Whole = slices.DeleteFunc(d.Whole, func(v string) bool { return !slices.Contains(p.Whole, v) })
	}
	slices.Sort(d.Boots)
	d.Boots = slices.Compact(d.Boots)
	for _, p := range j.Promises {
		if from >= j.index(p.From) {
			d.Promises = append(d.Promises, p)
		}
	}
	d.Settings = j.Medium == "" && from >= j.index(j.Recording.Settings)
	return d
}

// Look judges the disk that a cut left. The error says what is wrong with it; that
// something else went wrong is a *Trouble.
func (j *Judge) Look(ctx context.Context, c writelog.Cut) error {
	if err := j.replay.Seek(c); err != nil {
		return &Trouble{err}
	}
	if err := errors.Join(j.esp.Follow(), j.root.Follow()); err != nil {
		return &Trouble{err}
	}
	j.Report.Cuts++
	if j.Medium != "" {
		return j.lookInstall(ctx, c)
	}
	if err := j.between(); err != nil {
		return err
	}
	esp, err := j.lookESP(ctx)
	if err != nil {
		return err
	}
	root, err := j.lookRoot(ctx)
	if err != nil {
		return err
	}
	if from, _ := j.log.At(c); from >= j.index(j.Careless.From) && !root.torn && root.err == nil && root.files[j.Careless.Path] == "" {
		j.Report.Careless++
	}
	d := j.Demands(c)
	if err := judge(d, j.version(esp.image), esp, root); err != nil {
		j.Report.Violations++
		return fmt.Errorf("%v, in the phase %q: %w", c, d.Phase, err)
	}
	if slices.ContainsFunc(d.Whole, func(v string) bool { return !slices.Contains(esp.boots, v) }) {
		j.Report.NoName++
	}
	return nil
}

// LookAll looks at the disks of cuts, which are in the order of the log, and has bad
// told what is wrong with them. Of those that left the same disk it returns the first,
// if a kernel can mount that (see Report.Superblocks) and firmware finds it.
func (j *Judge) LookAll(ctx context.Context, cuts []writelog.Cut, bad func(error)) (bootable []writelog.Cut, err error) {
	seen := make(map[string]bool)
	for _, c := range cuts {
		err := j.Look(ctx, c)
		var trouble *Trouble
		if errors.As(err, &trouble) {
			return nil, fmt.Errorf("%v: %w", c, err)
		}
		if err != nil {
			bad(err)
		}
		disk := j.replay.Key(writelog.Section{Length: j.replay.Size()})
		if seen[disk] {
			continue
		}
		seen[disk] = true
		j.Report.Distinct++
		if boots, err := j.boots(ctx); err != nil {
			return nil, err
		} else if boots {
			bootable = append(bootable, c)
		} else {
			j.Passed = append(j.Passed, c)
		}
	}
	return bootable, nil
}

// boots reports whether the present disk can be started.
func (j *Judge) boots(ctx context.Context) (bool, error) {
	if j.Medium != "" {
		table, err := j.lookTable(ctx)
		if err != nil || !table.there {
			return false, err
		}
		if esp, err := j.lookESP(ctx); err != nil || !esp.fallback {
			return false, err
		}
	}
	root, err := j.lookRoot(ctx)
	return err == nil && !root.torn, err
}

// between says whether something was written outside of the partitions, where the
// partition table is.
func (j *Judge) between() error {
	end := int64(0)
	for _, s := range []writelog.Section{j.esp.Section, j.root.Section, {At: j.replay.Size()}} {
		if j.replay.Touched(writelog.Section{At: end, Length: s.At - end}) {
			return fmt.Errorf("something was written between bytes %d and %d, outside of the partitions", end, s.At)
		}
		end = s.At + s.Length
	}
	return nil
}

// Trouble is an error that says nothing of the disk.
type Trouble struct{ Err error }

func (t *Trouble) Error() string { return t.Err.Error() }
func (t *Trouble) Unwrap() error { return t.Err }

func judge(d Demand, version string, esp *espView, root *rootView) error {
	switch {
	case esp.err != nil:
		return fmt.Errorf("the ESP: %w", esp.err)
	case root.torn:
		return nil // counted, and nothing more can be said
	case root.err != nil:
		return fmt.Errorf("the root partition: %w", root.err)
	case !slices.Contains(d.Boots, version):
		return fmt.Errorf("%q boots next, which is release %q; want one of %q", esp.file, version, d.Boots)
	case root.whole[version] != nil:
		return fmt.Errorf("%s boots next and is not whole: %w", version, root.whole[version])
	}
	for _, v := range d.Whole {
		if root.whole[v] != nil {
			return fmt.Errorf("%s is not whole: %w", v, root.whole[v])
		}
	}
	for _, p := range d.Promises {
		if got := root.files[p.Path]; got != p.Content {
			return fmt.Errorf("/var/%s was flushed and has %q, want %q", p.Path, got, p.Content)
		}
	}
	return nil
}

// version is that of an image, or "".
func (j *Judge) version(image string) string {
	for v, d := range j.Images {
		if d == image {
			return v
		}
	}
	return ""
}

// ForgetFlushes judges the disks of a machine that wrote the same and never flushed,
// which cannot be good.
func (j *Judge) ForgetFlushes() {
	j.log.ForgetFlushes()
	j.Report.Epochs = j.log.Epochs()
}

// run runs a checker, whose output is for people, and returns its exit status.
func run(ctx context.Context, args ...string) (code int, said string, err error) {
	var out strings.Builder
	_, err = program.Run(ctx, program.Command{Args: args, Stdout: &out, Stderr: &out})
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), out.String(), nil
	}
	if err != nil {
		return 0, "", &Trouble{err}
	}
	return 0, out.String(), nil
}
