package update

import (
	"errors"
	"fmt"
	"io/fs"
)

// CheckBootFile compares the boot file of a deployment with what its release
// says it is, byte for byte, and returns a sentence when it is another one.
//
// Nothing else on a machine tells. The boot file is not among the objects that
// the kernel checks, for it is there before any kernel; with Secure Boot the
// firmware checks who signed it, and without, nobody.
func (m *Machine) CheckBootFile(d *Deployment) error {
	if d.Lost {
		return fmt.Errorf("%s has no boot file on the ESP any more", d.ID())
	}
	if d.Entry == nil {
		return nil // the loader has nothing to start, and is not meant to
	}
	file := d.Entry.File
	doc, err := m.Store.Document(&d.Deployment)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("boot file %q: nothing here says what it has to be: %s has no release document", file, d.ID())
	}
	if err != nil {
		return fmt.Errorf("boot file %q: nothing here says what it has to be: %w", file, err)
	}
	sum, err := sumFile(m.ESP.Path(*d.Entry))
	if err != nil {
		return fmt.Errorf("boot file %q: %w", file, err)
	}
	if sum != doc.UKI.SHA256 {
		return fmt.Errorf("boot file %q is not the one of %s: its sha256 is %s, and the release says %s", file, d.ID(), sum, doc.UKI.SHA256)
	}
	return nil
}
