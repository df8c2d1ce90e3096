package update

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
