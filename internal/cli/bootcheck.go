package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/sysroot"
	"github.com/ashlar-os/ashlar/internal/machine/update"
)

// bootAnswer says whether the machine was started by what its releases say, and
// by nothing else. With Secure Boot the firmware has seen to that; without, this
// is how one learns of a change.
type bootAnswer struct {
	Foreign string   `json:"foreign"` // "refuse" or "accept": parameters and credentials from firmware; "": unknown
	Added   []string `json:"added"`   // kernel parameters that the running boot file does not have
	Missing []string `json:"missing"` // kernel parameters that the kernel was not given
	Ignored []string `json:"ignored"` // what firmware and ESP offered to this boot, and was not taken
	Files   []string `json:"files"`   // boot files that are not those of their releases, and how
	Strays  []string `json:"strays"`  // files on the ESP that the loader or stub would take up, of no release
}

// checkBoot looks at the running system's start, and at the boot files of some images.
func checkBoot(m *update.Machine, s *update.State, images []verity.Digest) bootAnswer {
	a := bootAnswer{Added: []string{}, Missing: []string{}, Ignored: []string{}, Files: []string{}, Strays: m.ESP.Strays()}
	if record, err := readBootRecord(); err == nil && record.Image == m.Running {
		a.Foreign = record.Foreign
		a.Ignored = append(a.Ignored, record.Ignored...)
	}
	for i := range s.Deployments {
		d := &s.Deployments[i]
		if slices.Contains(images, d.Image) {
			if err := m.CheckBootFile(d); err != nil {
				a.Files = append(a.Files, err.Error())
			}
		}
		if d.Image == m.Running && d.Entry != nil {
			a.compareParameters(m.ESP.Path(*d.Entry))
		}
	}
	return a
}

// compareParameters compares the kernel's command line with the boot file's. One
// that cannot be read is none of its release either, which has been said.
func (a *bootAnswer) compareParameters(file string) {
	given, err := os.ReadFile(filepath.Join(machineRoot(), "proc/cmdline"))
	if err != nil {
		return
	}
	if uki, err := esp.ReadUKI(file); err == nil {
		added, missing := sysroot.CompareCmdlines(uki.Cmdline, string(given))
		a.Added, a.Missing = append(a.Added, added...), append(a.Missing, missing...)
	}
}

// fault is one thing that is wrong with the start, under a word of its own.
type fault struct{ word, text string }

// faults lists what is wrong. An image for tests has asked for foreign
// parameters.
func (a *bootAnswer) faults() (list []fault) {
	if len(a.Added)+len(a.Missing) > 0 && a.Foreign != sysroot.ForeignAccept {
		list = append(list, fault{"parameters", "NOT the boot file's: " + a.difference()})
	}
	for _, what := range a.Files {
		list = append(list, fault{"changed", what})
	}
	for _, file := range a.Strays {
		list = append(list, fault{"stray", fmt.Sprintf("%q on the ESP belongs to no release, and would be given to what boots", file)})
	}
	return list
}

// difference names the parameters that are not the boot file's.
func (a *bootAnswer) difference() string {
	var said []string
	for _, word := range a.Added {
		said = append(said, fmt.Sprintf("%q added", word))
	}
	for _, word := range a.Missing {
		said = append(said, fmt.Sprintf("%q missing", word))
	}
	return strings.Join(said, ", ")
}

// print says what a person should know of the start, one thing a line.
func (a *bootAnswer) print(g *globals) {
	if a.Foreign == sysroot.ForeignAccept {
		g.printf("foreign     this image accepts parameters and credentials from firmware: for tests only\n")
		if said := a.difference(); said != "" {
			g.printf("parameters  accepted beyond the boot file's: %s\n", said)
		}
	}
	for _, what := range a.Ignored {
		g.printf("ignored     %s\n", what)
	}
	for _, f := range a.faults() {
		g.printf("%-11s %s\n", f.word, f.text)
	}
}

// readBootRecord reads what the first process left for this boot.
func readBootRecord() (*sysroot.Record, error) {
	b, err := os.ReadFile(filepath.Join(machineRoot(), sysroot.RecordPath))
	if err != nil {
		return nil, err
	}
	var record sysroot.Record
	if err := json.Unmarshal(b, &record); err != nil {
		return nil, fmt.Errorf("reading %q: %w", sysroot.RecordPath, err)
	}
	return &record, nil
}
