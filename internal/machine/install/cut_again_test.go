package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/machine/crashtest"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/loader"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update"
)

// sample keeps a state in which the ESP looks as in none before, and some others.
func (m *cutMatrix) sample(d cutDisk, boots string) {
	var key strings.Builder
	fmt.Fprintf(&key, "%s %t", boots, d.esp == nil)
	image := d.esp
	if image == nil {
		for _, s := range d.raw.ESPs(cutDiskSize) {
			fmt.Fprint(&key, " has an ESP")
			image = d.raw.Section(s)
		}
	}
	walkESP(image, ".", func(name string, f crashtest.File) {
		fmt.Fprintf(&key, ";%s %d %t", name, len(f.Data), f.Err != nil)
	})
	if boots == "new" {
		_ = d.tree.Walk(func(name string, _ *crashtest.Node) error {
			if strings.Contains(name, "log/ashlar/") {
				fmt.Fprint(&key, ";", digits.ReplaceAllString(name, "-N$1"))
			}
			return nil
		})
	}
	every := 8000
	if d.esp == nil {
		every = 500
	}
	if m.states%every == 0 {
		fmt.Fprint(&key, m.states)
	}
	if m.samples[key.String()] {
		return
	}
	m.samples[key.String()] = true
	if boots == "new" {
		m.clear = append(m.clear, d)
	} else {
		m.reinstall = append(m.reinstall, d)
	}
}

// digits end the names of temporary files, and of what has been accepted of signatures.
var digits = regexp.MustCompile(`-[0-9]+(/|$)`)

// walkESP calls fn for the files of an ESP that can be listed.
func walkESP(image crashtest.Image, dir string, fn func(string, crashtest.File)) {
	list, _ := image.List(dir) // where there is none, nothing is on it
	for _, f := range list {
		name := path.Join(dir, f.Name)
		if f.Dir {
			walkESP(image, name, fn)
			continue
		}
		fn(name, f)
	}
}

// runAgain installs again on the disks that do not boot, and starts what a machine does
// by itself on those that do.
func (m *cutMatrix) runAgain() {
	want := append(m.names(m.dir("root")), m.names(m.dir("esp"))...)
	for _, d := range m.reinstall {
		m.reruns++
		p := *m.p
		p.Work = m.t.TempDir()
		p.Disk.Path = filepath.Join(m.t.TempDir(), "disk")
		p.Disk.Content = "what a cut left"
		raw := d.raw
		if d.esp != nil {
			raw = d.raw.Without(espSection)
			raw.Put(espSection.At, d.esp)
		}
		raw.WriteTo(m.t, p.Disk.Path, cutDiskSize)
		m.unpack(d.tree, p.Work)
		if !m.p.Answers.Disk.KeepVar { // as mke2fs does
			m.must(errors.Join(os.RemoveAll(filepath.Join(p.Work, "root")), os.Mkdir(filepath.Join(p.Work, "root"), 0o755)))
		}
		if err := p.run(); err != nil {
			m.t.Fatalf("installing again: %v", err)
		}
		root := filepath.Join(p.Work, "root")
		if got := append(m.names(root), m.names(filepath.Join(p.Work, "esp"))...); !slices.Equal(got, want) {
			m.t.Errorf("installed again, there are %q, want %q", minus(got, want), minus(want, got))
		}
		if err := m.kept(crashtest.Load(m.t, p.Work)); err != nil {
			m.t.Errorf("installed again: %v", err)
		}
		if m.t.Failed() {
			return
		}
	}
	for _, d := range m.clear {
		m.cleared++
		dir := m.t.TempDir()
		m.unpack(d.tree, dir)
		m.mountESP(d.esp, filepath.Join(dir, "esp"))
		s, err := store.Open(filepath.Join(dir, "root/ashlar"))
		m.must(err)
		partition, err := esp.Open(filepath.Join(dir, "esp"))
		m.must(err)
		m.must((&update.Machine{Store: s, ESP: partition}).Prepare())
		m.must((&loader.Machine{ESP: partition.Dir, Store: s.Dir}).Clean())
		got := append(m.names(filepath.Join(dir, "root")), m.names(partition.Dir)...)
		if left := minus(got, want); len(left) > 0 {
			m.t.Fatalf("cleared up, there are %q", left)
		}
	}
}

// unpack writes the root file system below dir.
func (m *cutMatrix) unpack(tree *crashtest.Tree, dir string) {
	m.t.Helper()
	tree.Store(m.t, dir)
	m.must(errors.Join(os.RemoveAll(filepath.Join(dir, "esp")), os.Mkdir(filepath.Join(dir, "esp"), 0o755)))
}

// names lists what is below a directory. Numbers in names are left out.
func (m *cutMatrix) names(dir string) (list []string) {
	m.t.Helper()
	m.must(filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		relative, _ := filepath.Rel(filepath.Dir(dir), name)
		list = append(list, digits.ReplaceAllString(relative, "-N$1"))
		return err
	}))
	slices.Sort(list)
	return list
}

// minus is what is in a and not in b.
func minus(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// mountESP lets fsck.vfat repair an ESP, as it does before one is mounted, and writes what
// is on it to a directory.
func (m *cutMatrix) mountESP(image crashtest.Image, dir string) {
	m.t.Helper()
	name := filepath.Join(m.t.TempDir(), "esp")
	image.WriteTo(m.t, name, espSize)
	for _, mode := range []string{"-a", "-n"} {
		out, err := exec.Command("fsck.vfat", mode, name).CombinedOutput()
		if code := exitStatus(err); code > 1 || code == 1 && mode == "-n" {
			m.t.Fatalf("fsck.vfat %s: %v\n%s", mode, err, out)
		}
	}
	walkESP(crashtest.LoadImage(m.t, name), ".", func(file string, f crashtest.File) {
		at := filepath.Join(dir, file)
		m.must(os.MkdirAll(filepath.Dir(at), 0o755))
		m.must(os.WriteFile(at, f.Data, 0o644))
	})
	m.must(os.Remove(name))
}

func exitStatus(err error) int {
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}
