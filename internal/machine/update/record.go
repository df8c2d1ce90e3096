package update

import (
	"errors"
	"io/fs"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/store"
)

// RecordGoodBoot notes that the running deployment came up: from now on it is
// what a rollback goes back to. It runs after boot-complete.target.
func (m *Machine) RecordGoodBoot() error {
	s, err := m.Look()
	if err != nil {
		return err
	}
	running := s.With(Running)
	if running == nil || running.GoodBootsSeq > 0 && running.GoodBootsSeq == s.lastSeq() {
		return nil
	}
	dep := running.Deployment
	dep.GoodBootsSeq = s.lastSeq() + 1
	return m.Store.WriteDeployment(&dep)
}

// SetPinned pins or unpins a deployment: a pinned one survives every clean-up.
func (m *Machine) SetPinned(d *Deployment, pinned bool) error {
	dep := d.Deployment
	dep.Pinned = pinned
	return m.Store.WriteDeployment(&dep)
}

// Follow makes the deployment of image d, if there is one, look for updates at
// origin from now on.
func (m *Machine) Follow(d verity.Digest, origin store.Origin) error {
	dep, err := m.Store.Deployment(d)
	if errors.Is(err, fs.ErrNotExist) || err == nil && dep.Origin == origin {
		return nil
	}
	if err != nil {
		return err
	}
	dep.Origin = origin
	return m.Store.WriteDeployment(dep)
}
