package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/boot"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
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

// machineRoot is the directory that plays "/".
func machineRoot() string {
	if root := os.Getenv("ASHLAR_ROOT"); root != "" {
		return root
	}
	return "/"
}

// openMachine opens the computer it runs on, to look at.
func openMachine() (*update.Machine, error) {
	root := machineRoot()
	st, err := store.Open(filepath.Join(root, sysrootDir, "ashlar"))
	if err != nil {
		return nil, &notAshlarError{err}
	}
	if root != "/" {
		st.Sealer = store.Software
	}
	partition, err := esp.Open(filepath.Join(root, espDir))
	if err != nil {
		return nil, &notAshlarError{err}
	}
	running, err := boot.Running(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &update.Machine{Store: st, ESP: partition, Running: running}, nil
}

// lockMachine opens the computer to change it: only root may, and only one at
// a time. The caller must call unlock.
func lockMachine(verb string) (m *update.Machine, unlock func(), err error) {
	if machineRoot() == "/" {
		if os.Geteuid() != 0 {
			return nil, nil, fmt.Errorf("only root can run ashlar %s", verb)
		}
		if err := sysroot.EnsureWritable(sysrootDir); err != nil {
			return nil, nil, &notAshlarError{err}
		}
	}
	if m, err = openMachine(); err != nil {
		return nil, nil, err
	}
	unlock, err = m.Store.Lock(verb)
	if errors.Is(err, store.ErrBusy) {
		return nil, nil, &codeError{exitBusy, err}
	}
	if err != nil {
		return nil, nil, err
	}
	if err := m.Store.CleanTmp(); err != nil {
		unlock()
		return nil, nil, err
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
	for _, d := range s.Deployments {
		words = append(words, d.Version+"\t"+d.ID())
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// short is a digest as people are shown it, or nothing.
func short(d verity.Digest) string {
	if d.IsZero() {
		return ""
	}
	return d.Short()
}
