package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
