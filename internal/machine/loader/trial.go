package loader

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ashlar-os/ashlar/internal/limited"
	"github.com/ashlar-os/ashlar/internal/machine/history"
	"github.com/ashlar-os/ashlar/internal/machine/store"
)

// trialFile is in the store's directory.
const trialFile = "loader.json"

// Trial is a new loader that the firmware was asked to start.
type Trial struct {
	SHA256 string `json:"sha256"`
	Tries  int    `json:"tries"` // how often it was asked to
	Boot   string `json:"boot"`  // which boot asked last
}

// of is how often p was tried.
func (t *Trial) of(p *Program) int {
	if t == nil || t.SHA256 != p.SHA256 {
		return 0
	}
	return t.Tries
}

// readTrial returns nil where none is on trial. One that cannot be decoded counts
// as none: the worst that comes of it are three tries more.
func (m *Machine) readTrial() (*Trial, error) {
	b, err := limited.File(filepath.Join(m.Store, trialFile), 4<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var t Trial
	if json.Unmarshal(b, &t) != nil || t.Tries < 0 {
		return nil, nil
	}
	return &t, nil
}

func (m *Machine) writeTrial(t Trial) error {
	b, err := json.Marshal(t)
	if err == nil {
		err = store.WriteFileAtomic(filepath.Join(m.Store, trialFile), b, 0o644)
	}
	if err != nil {
		return fmt.Errorf("noting the try: %w", err)
	}
	return nil
}

func (m *Machine) forgetTrial() error {
	err := os.Remove(filepath.Join(m.Store, trialFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (m *Machine) bootID() string { return history.BootID(m.Root) }
