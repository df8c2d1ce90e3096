package cli

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/ashlar-os/ashlar/internal/limited"
	"github.com/ashlar-os/ashlar/internal/machine/etc"
	"github.com/ashlar-os/ashlar/internal/machine/secureboot"
	"github.com/ashlar-os/ashlar/internal/machine/sysroot"
)

// mediumError is a system that runs from an install medium: there is nothing on it
// that could be changed, and the computer is not a machine yet, or another one's.
type mediumError struct{ device string }

func (e *mediumError) Error() string {
	return fmt.Sprintf("this system runs from the install medium %q, which nothing changes: it has no deployments, no updates and no way back", e.device)
}

func (*mediumError) Hint() string {
	return "ashlar status says what runs; ashlar install puts it on a disk"
}

// runsFromMedium returns the record of the boot on a medium, and nil elsewhere.
func runsFromMedium() *sysroot.Record {
	if record, err := readBootRecord(); err == nil && record.Medium != nil {
		return record
	}
	return nil
}

// refuseMedium returns a mediumError on a medium.
func refuseMedium() error {
	if record := runsFromMedium(); record != nil {
		return &mediumError{record.Medium.Device}
	}
	return nil
}

// mediumAnswer is what `ashlar status` says of the medium that the system runs from.
type mediumAnswer struct {
	Device   string `json:"device"`    // such as "/dev/sr0"
	RootHash string `json:"root_hash"` // of its payload, as the boot file says
	Name     string `json:"name"`      // of the release
	Version  string `json:"version"`
}

// statusOfMedium is the status of a system that runs from a medium.
func statusOfMedium(record *sysroot.Record) statusAnswer {
	answer := statusAnswer{
		Schema: 1, Running: record.Image.String(), Deployments: []statusDeployment{}, Conflicts: []etc.Item{},
		Foreign: []string{}, Broken: []string{}, Short: []string{},
		Boot:       bootAnswer{Foreign: record.Foreign, Added: []string{}, Missing: []string{}, Ignored: append([]string{}, record.Ignored...), Files: []string{}, Strays: []string{}},
		SecureBoot: secureBootAnswer{Mode: secureboot.Read(machineRoot()).Mode, Loaders: []*startedAnswer{}},
		Medium:     &mediumAnswer{Device: record.Medium.Device, RootHash: record.Medium.RootHash},
	}
	if mounts, err := readMounts(); err == nil {
		answer.Sealed = record.Medium.Sealed(mounts)
	}
	answer.Medium.Name, answer.Medium.Version = imageVersion()
	return answer
}

// imageVersion reads the running image's os-release.
func imageVersion() (name, version string) {
	text, err := limited.File(filepath.Join(machineRoot(), "usr/lib/os-release"), 64<<10)
	if err != nil {
		return "", ""
	}
	for _, line := range strings.Split(string(text), "\n") {
		if value, ok := strings.CutPrefix(line, "IMAGE_ID="); ok {
			name = strings.Trim(value, `"`)
		} else if value, ok := strings.CutPrefix(line, "IMAGE_VERSION="); ok {
			version = strings.Trim(value, `"`)
		}
	}
	return name, version
}

func (m *mediumAnswer) print(g *globals, answer statusAnswer) {
	g.printf("medium      %q runs %s-%s, image %.12s; nothing is installed by that\n", m.Device, m.Name, m.Version, answer.Running)
	sealed := "sealed: the kernel checks every block of the medium at every read (dm-verity)"
	if !answer.Sealed {
		sealed = "NOT SEALED: the root is not the medium's"
	}
	g.printf("root        %s\n", sealed)
	g.printf("changes     kept in memory until the computer is turned off\n")
}

// printEncryption says that the root partition is encrypted, where it is.
func printEncryption(g *globals, e *sysroot.Encryption) {
	if e == nil {
		return
	}
	wrong := ""
	switch {
	case e.Wrong == 1:
		wrong = "; unlocked after 1 wrong passphrase"
	case e.Wrong > 1:
		wrong = fmt.Sprintf("; unlocked after %d wrong passphrases", e.Wrong)
	}
	g.printf("encrypted   %q is LUKS2%s\n", e.Device, wrong)
}
