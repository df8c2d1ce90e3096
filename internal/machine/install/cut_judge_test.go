package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/ashlar-os/ashlar/internal/machine/crashtest"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// looked is what is looked at of a disk, as the installer divides one: the tables, the
// ESP, and the beginning of the root partition.
var (
	espSection = crashtest.Section{At: alignment, Length: espSize}
	rootHead   = crashtest.Section{At: alignment + espSize, Length: mib}
	looked     = []crashtest.Section{
		{At: 0, Length: alignment}, espSection, rootHead, {At: cutDiskSize - mib, Length: mib},
	}
)

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
