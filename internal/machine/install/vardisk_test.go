package install

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
	"github.com/ashlar-os/ashlar/internal/program"
)

// varDisk makes a disk for /var that was somebody's.
func (b *bench) varDisk(name string) Disk {
	b.t.Helper()
	d := b.disk(name)
	d.Size = 1200 << 20
	b.must(os.Truncate(d.Path, d.Size))
	f, err := os.OpenFile(d.Path, os.O_WRONLY, 0)
	b.must(err)
	defer f.Close()
	_, err = f.WriteAt(bytes.Repeat([]byte("somebody's data "), 1<<18), 0)
	b.must(err)
	d.Content = "data of an unknown kind"
	return d
}

// lookVar mounts what became of a disk for /var.
func (b *bench) lookVar(d Disk, do func(dir string, p gpt.Partition)) {
	b.t.Helper()
	f, err := os.Open(d.Path)
	b.must(err)
	table, err := gpt.Read(f, d.Sector)
	b.must(err)
	b.must(f.Close())
	if len(table.Partitions) != 1 {
		b.t.Fatalf("it has %d partitions", len(table.Partitions))
	}
	p := table.Partitions[0]
	dev, err := openDevice(&d)
	b.must(err)
	defer func() { b.must(dev.close()) }()
	name, err := dev.partition(context.Background(), Partition{Number: p.Number, Start: p.Start, Size: p.Size})
	b.must(err)
	b.run("e2fsck", "-fn", name)
	dir := b.t.TempDir()
	b.run("mount", name, dir)
	defer func() { b.run("umount", dir) }()
	do(dir, p)
}

func sum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return string(h.Sum(nil))
}

// /var goes to the disk that is named for it, the system to the other, and the root
// partition says where /var is.
func TestVarDisk(t *testing.T) {
	b := newBench(t)
	system, other := b.disk("a"), b.varDisk("v")
	a := answers()
	a.Disk.ID, a.Var = system.ID, VarAnswer{other.ID, other.Serial}
	r := b.install(a, other, system)
	if lines := strings.Join(r.Report.Lines(), "\n"); !strings.Contains(lines, "on file-a, with /var on file-v.") {
		t.Errorf("the report says %s", lines)
	}
	b.run("sfdisk", "--verify", other.Path)
	var id string
	b.lookVar(other, func(dir string, p gpt.Partition) {
		if id = p.ID.String(); p.Type != gpt.TypeVar || p.Name != "ashlar-var" {
			t.Errorf("the partition is %+v", p)
		}
		if got := strings.TrimSpace(b.run("stat", "-c", "%a %u %g", dir, filepath.Join(dir, "home/ada"))); got != "755 0 0\n700 1000 1000" {
			t.Errorf("/var and the home directory are %q", got)
		}
		text, err := os.ReadFile(filepath.Join(dir, "log/ashlar/install.json"))
		b.must(err)
		var report struct {
			Plan struct {
				Var struct {
					Disk struct{ ID string }
					Mode string
				}
			}
		}
		b.must(json.Unmarshal(text, &report))
		if v := report.Plan.Var; v.Disk.ID != other.ID || v.Mode != Erase {
			t.Errorf("the report's plan has %+v", v)
		}
	})
	b.look(system, func(c *updatetest.Computer) {
		if got := c.WouldBoot(); got != b.rel.Image() {
			t.Errorf("%s would boot", got)
		}
		if err := c.Whole(b.rel.Image()); err != nil {
			t.Error(err)
		}
		record, err := c.Store().VarDisk()
		if err != nil || record == nil || *record != (store.VarDisk{Schema: store.VarSchema, PartUUID: id, Disk: other.ID}) {
			t.Errorf("the root partition says %+v, %v", record, err)
		}
		if list, err := os.ReadDir(c.Store().VarPath()); err != nil || len(list) > 0 {
			t.Errorf("its own /var has %v, %v", list, err)
		}
	})
	if list, err := os.ReadDir(filepath.Join(b.in.Work, "root")); err != nil || len(list) > 0 {
		t.Errorf("something is mounted still: %v, %v", list, err)
	}
	if out := b.run("losetup", "--list", "--noheadings", "--output", "BACK-FILE"); strings.Contains(out, other.Path) {
		t.Errorf("the disk is attached still: %s", out)
	}
}

// A /var that is kept stays on its disk, with the record of it; without that disk
// nothing is changed, and the machine boots as it did.
func TestKeepVarDisk(t *testing.T) {
	b := newBench(t)
	system, other := b.disk("a"), b.varDisk("v")
	a := answers()
	a.Disk.ID, a.Var = system.ID, VarAnswer{other.ID, other.ID}
	b.install(a, system, other)
	old := b.rel.Image()
	b.lookVar(other, func(dir string, _ gpt.Partition) {
		b.must(os.WriteFile(filepath.Join(dir, "home/ada/thesis"), []byte("years of work"), 0o600))
	})
	b.insert("2.0.0")
	a = answers()
	a.Disk = DiskAnswer{ID: system.ID, KeepVar: true}

	a.Var.Disk = other.ID
	if _, err := b.in.Plan(context.Background(), a, []Disk{system, other}); err == nil || !strings.Contains(err.Error(), `"var.disk" and "disk.keep_var"`) {
		t.Errorf("kept and named: %v", err)
	}
	a.Var.Disk = ""
	for _, c := range []struct {
		disks []Disk
		want  string
	}{
		{[]Disk{system, b.disk("c")}, "this machine's /var is on the disk file-v (partition "},
		{[]Disk{system, other, other}, "they are copies"},
	} {
		plan, err := b.in.Plan(context.Background(), a, c.disks)
		b.must(err)
		if _, err := b.in.Run(context.Background(), plan, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error is %v, want one with %q", err, c.want)
		}
		b.look(system, func(c *updatetest.Computer) {
			if got := c.WouldBoot(); got != old {
				t.Errorf("%s would boot", got)
			}
		})
	}

	b.install(a, system, other)
	b.look(system, func(c *updatetest.Computer) {
		if got := c.WouldBoot(); got != b.rel.Image() {
			t.Errorf("%s would boot", got)
		}
		if record, err := c.Store().VarDisk(); err != nil || record == nil || record.Disk != other.ID {
			t.Errorf("the root partition says %+v, %v", record, err)
		}
		if list, err := os.ReadDir(c.Store().VarPath()); err != nil || len(list) > 0 {
			t.Errorf("its own /var has %v, %v", list, err)
		}
	})
	b.lookVar(other, func(dir string, _ gpt.Partition) {
		if got, err := os.ReadFile(filepath.Join(dir, "home/ada/thesis")); err != nil || string(got) != "years of work" {
			t.Errorf("what was kept is %q (%v)", got, err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "log/ashlar/install.json"))
		if err != nil || !strings.Contains(string(text), "server-2.0.0") || !strings.Contains(string(text), "keeping /var on the disk file-v") {
			t.Errorf("the report is %s (%v)", text, err)
		}
	})

	// Started over without a word on it, the disk of the old /var stays as it is.
	before := sum(t, other.Path)
	a.Disk = DiskAnswer{ID: system.ID, Erase: system.ID}
	system.Content = "a partition table with 2 partitions"
	b.install(a, system, other)
	if sum(t, other.Path) != before {
		t.Error("the disk of the old /var was written to")
	}
	b.look(system, func(c *updatetest.Computer) {
		if record, err := c.Store().VarDisk(); record != nil || err != nil {
			t.Errorf("the root partition says %+v, %v", record, err)
		}
		if _, err := os.Stat(filepath.Join(c.Store().VarPath(), "home/ada")); err != nil {
			t.Error(err)
		}
	})
}

// A disk for /var is taken by name alone, and by the rules of the system's own.
func TestWrongVarDisk(t *testing.T) {
	b := newBench(t)
	system, empty, full, medium, small := b.disk("a"), b.disk("b"), b.varDisk("c"), b.disk("m"), b.disk("s")
	medium.Refused = "this computer runs from it"
	small.Size = 1<<30 - 1
	all := []Disk{system, empty, full, medium, small}
	for _, c := range []struct {
		name string
		vars VarAnswer
		want string // an error; empty: the disk is taken
	}{
		{"empty", VarAnswer{Disk: empty.ID}, ""},
		{"full, erased by its id", VarAnswer{full.ID, full.ID}, ""},
		{"erased, not named", VarAnswer{Erase: full.ID}, `field "var.disk" is missing`},
		{"full", VarAnswer{Disk: full.ID}, "is not empty: "},
		{"full, another erased", VarAnswer{full.ID, empty.ID}, "what may be erased is"},
		{"full, erased by the name of today", VarAnswer{full.ID, full.Name}, "what may be erased is"},
		{"the system's", VarAnswer{system.ID, system.ID}, "gets the system"},
		{"the system's, by serial number", VarAnswer{Disk: system.Serial}, "gets the system"},
		{"the medium", VarAnswer{medium.ID, medium.ID}, "this computer runs from it"},
		{"not there", VarAnswer{Disk: "ata-other"}, `the disk for /var: there is no disk "ata-other"`},
		{"too small", VarAnswer{Disk: small.ID}, "no disk of less than 1074 MB"},
		{"no word", VarAnswer{Disk: "two words"}, `field "var.disk"`},
	} {
		a := answers()
		a.Disk.ID, a.Var = system.ID, c.vars
		plan, err := b.in.Plan(context.Background(), a, all)
		switch {
		case c.want == "" && (err != nil || plan.Var == nil || plan.Var.Disk.ID != c.vars.Disk):
			t.Errorf("%s: %+v, %v", c.name, plan, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error is %v, want one with %q", c.name, err, c.want)
		}
	}
	a := answers()
	a.Disk.ID, a.Var.Disk = system.ID, full.ID
	_, err := b.in.Plan(context.Background(), a, all)
	if hint, ok := err.(interface{ Hint() string }); !ok || !strings.Contains(hint.Hint(), `erase = "file-c" below [var]`) {
		t.Errorf("the hint of %v", err)
	}
	a.Disk.ID, a.Var.Disk = "", empty.ID
	if _, err := b.in.Plan(context.Background(), a, []Disk{system, empty}); err == nil || !strings.Contains(err.Error(), "there are 2 disks, and none is named") {
		t.Errorf("the system's disk is what is left over: %v", err)
	}
}

// Where the disk of /var is in use, the other one is left as it is.
func TestVarDiskInUse(t *testing.T) {
	b := newBench(t)
	system, other := b.varDisk("a"), b.disk("v")
	system.Size = 4 << 30
	b.must(os.Truncate(system.Path, system.Size))
	a := answers()
	a.Disk, a.Var.Disk = DiskAnswer{ID: system.ID, Erase: system.ID}, other.ID
	plan, err := b.in.Plan(context.Background(), a, []Disk{system, other})
	b.must(err)
	loop := strings.TrimSpace(b.run("losetup", "--show", "--find", other.Path))
	defer b.run("losetup", "--detach", loop)
	dir := t.TempDir()
	b.run("mke2fs", "-q", "-F", loop)
	b.run("mount", loop, dir)
	defer b.run("umount", dir)
	plan.Var.Disk.Path = loop // a block device, as real disks are
	if _, err := b.in.Run(context.Background(), plan, nil); err == nil || !strings.Contains(err.Error(), "is in use") {
		t.Errorf("error is %v", err)
	}
	head := make([]byte, 16)
	f, err := os.Open(system.Path)
	b.must(err)
	defer f.Close()
	if _, err := f.ReadAt(head, 0); err != nil || string(head) != "somebody's data " {
		t.Errorf("the other disk begins with %q, %v", head, err)
	}
}

// Interrupted anywhere, neither disk keeps the medium from installing again.
func TestVarDiskInterrupted(t *testing.T) {
	b := newBench(t)
	system, other := b.disk("a"), b.varDisk("v")
	a := answers()
	a.Disk, a.Var = DiskAnswer{ID: system.ID, Erase: system.ID}, VarAnswer{other.ID, other.ID}
	for stop := 1; ; stop++ {
		ctx, cancel := context.WithCancel(context.Background())
		steps := 0
		b.in.Log = func(string) {
			if steps++; steps == stop {
				cancel()
			}
		}
		plan, err := b.in.Plan(ctx, a, []Disk{system, other})
		b.must(err)
		_, err = b.in.Run(ctx, plan, nil)
		cancel()
		if err == nil {
			break
		}
		if stop > 6 {
			t.Fatal(err)
		}
	}
	b.lookVar(other, func(dir string, _ gpt.Partition) {
		if _, err := os.Stat(filepath.Join(dir, "home/ada")); err != nil {
			t.Error(err)
		}
	})
}

// The key that the machine keeps, the passphrase and the recovery key open an
// encrypted /var; the key costs next to nothing, for it is not guessed.
func TestEncryptVar(t *testing.T) {
	path := filepath.Join(t.TempDir(), "var")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 64<<20); err != nil {
		t.Fatal(err)
	}
	ctx, in := context.Background(), &Installer{pbkdf: []string{"--pbkdf-force-iterations", "4", "--pbkdf-memory", "32"}}
	key, err := in.encryptVar(ctx, path, "correct horse", "cbdefghi")
	if err != nil {
		t.Fatal(err)
	}
	if len(key) != store.VarKeySize || bytes.Equal(key, make([]byte, len(key))) {
		t.Errorf("the key is %x", key)
	}
	for word, want := range map[string]bool{string(key): true, "correct horse": true, "cbdefghi": true, "wrong horse": false} {
		_, err := program.Run(ctx, program.Command{
			Args: []string{"cryptsetup", "open", "--test-passphrase", "--type", "luks2", "--key-file", "-", path}, Stdin: strings.NewReader(word),
		})
		if (err == nil) != want {
			t.Errorf("%q opens it: %v", word, err)
		}
	}
	out, err := program.Run(ctx, program.Command{Args: []string{"cryptsetup", "luksDump", path}})
	if err != nil || strings.Count(string(out), "argon2id") != 2 || !strings.Contains(string(out), "Iterations: 1000\n") {
		t.Errorf("%s (%v)", out, err)
	}
}
