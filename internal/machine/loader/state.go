package loader

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/limited"
	"github.com/ashlar-os/ashlar/internal/machine/boot"
	"github.com/ashlar-os/ashlar/internal/machine/secureboot"
)

// The two copies on the ESP.
const (
	Fallback = "EFI/BOOT/BOOTX64.EFI"
	Entered  = "EFI/systemd/systemd-bootx64.efi"
)

// Copies are both, the firmware's own choice last.
var Copies = []string{Entered, Fallback}

// imagePaths are where an image keeps its loader; the signed one starts everywhere.
var imagePaths = []string{
	"usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed",
	"usr/lib/systemd/boot/efi/systemd-bootx64.efi",
}

const (
	maxLoader = 16 << 20 // bytes; systemd-boot has some 140 thousand
	maxTries  = 3        // of one new loader

	startedVariable = "LoaderImageIdentifier-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
)

// Program is a loader.
type Program struct {
	File    string `json:"file"`    // on the ESP, or in the image
	Version string `json:"version"` // such as "systemd-boot 257.13-1"; "" where it does not say
	SHA256  string `json:"sha256"`

	content []byte
}

func (p *Program) same(o *Program) bool { return p != nil && o != nil && p.SHA256 == o.SHA256 }

func (p *Program) name() string {
	if p.Version == "" {
		return "a loader without a version"
	}
	return p.Version
}

// Machine is where the loader is looked after.
type Machine struct {
	Root     string            // "/" but in tests
	ESP      string            // where it is mounted
	Store    string            // keeps what was tried
	Firmware *secureboot.State // what it starts; nil: everything
}

// State is what is known of the loaders.
type State struct {
	Started string    // file that started this boot; "" where the loader did not say
	Image   *Program  // nil: the running image brings none
	Copies  []Program // of those that are there, and whole enough to read
	Tried   *Trial    // nil: none is on trial

	boot    string // id of this boot
	refused error  // why the firmware would not start the image's
	writes  bool   // the firmware has variables
}

// Look reads the loaders of image and ESP. It changes nothing.
func (m *Machine) Look() (*State, error) {
	s, err := m.look()
	if err != nil {
		return nil, fmt.Errorf("looking at the boot loader: %w", err)
	}
	return s, nil
}

func (m *Machine) look() (*State, error) {
	s := &State{boot: m.bootID(), writes: m.hasVariables()}
	var err error
	if s.Started, err = m.started(); err != nil {
		return nil, err
	}
	for _, path := range imagePaths {
		if s.Image, err = read(m.Root, path); s.Image != nil || err != nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	for _, path := range Copies {
		p, err := read(m.ESP, path)
		if err != nil {
			return nil, err
		}
		if p != nil {
			s.Copies = append(s.Copies, *p)
		}
	}
	if s.Image != nil && m.Firmware != nil {
		s.refused = m.Firmware.Check(bytes.NewReader(s.Image.content), int64(len(s.Image.content)))
	}
	s.Tried, err = m.readTrial()
	return s, err
}

// started is which of the two copies the variable names.
func (m *Machine) started() (string, error) {
	b, err := boot.Variable(m.Root, startedVariable)
	if err != nil || b == nil {
		return "", err
	}
	text, err := boot.DecodeUTF16(b)
	if err != nil {
		return "", fmt.Errorf("EFI variable %q: %w", startedVariable, err)
	}
	path := strings.TrimPrefix(strings.ReplaceAll(text, `\`, "/"), "/")
	for _, file := range Copies {
		if strings.EqualFold(path, file) {
			return file, nil
		}
	}
	return "", nil
}

// copyAt returns the copy that is there, or nil.
func (s *State) copyAt(file string) *Program {
	for i := range s.Copies {
		if s.Copies[i].File == file {
			return &s.Copies[i]
		}
	}
	return nil
}

func read(dir, file string) (*Program, error) {
	b, err := limited.File(filepath.Join(dir, filepath.FromSlash(file)), maxLoader)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	return &Program{File: file, Version: Version(b), SHA256: hex.EncodeToString(sum[:]), content: b}, nil
}

// Version is what a loader says that it is, in its section .sdmagic, which bootctl
// looks for in the same way.
func Version(program []byte) string {
	const begin, end = "#### LoaderInfo: ", " ####"
	_, rest, ok := bytes.Cut(program, []byte(begin))
	if !ok {
		return ""
	}
	text, _, ok := bytes.Cut(rest[:min(len(rest), 128)], []byte(end))
	if !ok || bytes.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return string(text)
}

// older reports whether a is an older loader than b, both of one kind.
func older(a, b *Program) bool {
	kindA, versionA, okA := strings.Cut(a.Version, " ")
	kindB, versionB, okB := strings.Cut(b.Version, " ")
	return okA && okB && kindA == kindB && release.CompareVersions(versionA, versionB) < 0
}
