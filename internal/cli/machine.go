package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/limited"
	"github.com/ashlar-os/ashlar/internal/machine/boot"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/secureboot"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/sysroot"
	"github.com/ashlar-os/ashlar/internal/machine/update"
)

// Where a machine keeps things; ASHLAR_ROOT puts another directory before
// them, so that every verb runs on a tree that plays a machine.
const (
	sysrootDir = "/sysroot"
	espDir     = "/efi"
)

// notAshlarError is a computer that Ashlar did not install.
type notAshlarError struct{ err error }

func (e *notAshlarError) Error() string {
	return fmt.Sprintf("this computer is not an Ashlar machine: %v", e.err)
}
func (e *notAshlarError) Unwrap() error { return e.err }

// errNotRoot is for everybody else.
var errNotRoot = errors.New("only root can run this on a machine: its store and its boot files are root's alone")

// machineRoot is the directory that plays "/".
func machineRoot() string {
	if root := os.Getenv("ASHLAR_ROOT"); root != "" {
		return root
	}
	return "/"
}

// openMachine opens the computer it runs on, to look at. The store and the ESP
// are root's alone, even to read.
func openMachine() (*update.Machine, error) {
	if err := refuseMedium(); err != nil {
		return nil, err
	}
	root := machineRoot()
	st, err := store.Open(filepath.Join(root, sysrootDir, "ashlar"))
	if err != nil {
		return nil, &notAshlarError{err}
	}
	if root != "/" {
		st.Sealer = store.Software
	} else if os.Geteuid() != 0 {
		return nil, errNotRoot
	}
	partition, err := esp.Open(filepath.Join(root, espDir))
	if err != nil {
		return nil, &notAshlarError{err}
	}
	running, err := boot.Running(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	keys, err := readRoot(filepath.Join(root, update.RootPath))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &update.Machine{Store: st, ESP: partition, Firmware: secureboot.Read(root), Running: running, Root: keys}, nil
}

// readRoot reads a publisher's root.json.
func readRoot(path string) ([]byte, error) { return limited.File(path, update.MaxRoot) }

// openToCheck opens the computer to look, and to remember what was seen of a
// repository, which needs no lock.
func openToCheck() (*update.Machine, error) {
	if err := makeWritable(); err != nil {
		return nil, err
	}
	return openMachine()
}

// makeWritable lets this process write to the store: root on a machine.
func makeWritable() error {
	if err := refuseMedium(); err != nil {
		return err
	}
	if machineRoot() != "/" {
		return nil
	}
	if os.Geteuid() != 0 {
		if _, err := openMachine(); err != nil {
			return err // says which of the two it is
		}
		return errNotRoot
	}
	if err := sysroot.EnsureWritable(sysrootDir); err != nil {
		return &notAshlarError{err}
	}
	return nil
}

// lockMachine opens the computer to change it: only root may, and only one at
// a time. The caller must call unlock.
func lockMachine(verb string) (m *update.Machine, unlock func(), err error) {
	if err := makeWritable(); err != nil {
		return nil, nil, err
	}
	if m, err = openMachine(); err != nil {
		return nil, nil, err
	}
	m.By = actor()
	unlock, err = m.Store.Lock(verb)
	if errors.Is(err, store.ErrBusy) {
		return nil, nil, &codeError{exitBusy, err}
	}
	if err != nil {
		return nil, nil, err
	}
	for _, clean := range []func() error{m.Prepare, loaderMachine(m).Clean} {
		if err := clean(); err != nil {
			unlock()
			return nil, nil, err
		}
	}
	return m, unlock, nil
}

// completeDeployments completes with the versions that are on this machine.
func completeDeployments(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	m, err := openMachine()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	s, err := m.Look()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []string
	for i := range s.Deployments {
		d := &s.Deployments[i]
		words = append(words, d.Version+"\t"+d.ID())
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}
