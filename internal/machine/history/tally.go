package history

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/store"
)

// MaxUnclean is how many boots in a row of one deployment may end badly until
// the loader counts its boots again.
//
// A boot ends well when, after boot-complete.target, the machine stays up for
// ten minutes or is shut down in order (ashlar-settled.timer and
// ashlar-booted.service say so). Every boot begins as one that did not.
const MaxUnclean = 3

const (
	tallyFile   = "boots.json"
	tallySchema = 1
	maxTally    = 4 << 10 // bytes
)

// Tally is boots.json: the boots of what was booted last.
type Tally struct {
	Schema  int           `json:"schema"`
	Image   verity.Digest `json:"image"`
	Boot    string        `json:"boot"`    // the kernel's id of the last boot
	Unclean int           `json:"unclean"` // boots in a row that did not end well, the last included until it does
	Suspect bool          `json:"suspect"` // it is counted again, and has to stay up before it is found good
	Stay    bool          `json:"stay"`    // nothing here boots well, and this gets furthest
}

// ReadTally reads the tally of the store in dir. One that is missing or cannot
// be read is empty: then the machine has no suspicion.
func ReadTally(dir string) Tally {
	text, err := readTail(filepath.Join(dir, tallyFile), maxTally)
	if err != nil {
		return Tally{}
	}
	t, err := decodeTally(text)
	if err != nil {
		return Tally{}
	}
	return t
}

func decodeTally(text []byte) (t Tally, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&t); err != nil {
		return t, err
	}
	switch {
	case t.Schema != tallySchema:
		return t, fmt.Errorf("field %q: %d is not known here", "schema", t.Schema)
	case t.Unclean < 0 || t.Unclean > MaxUnclean+1:
		return t, fmt.Errorf("field %q: %d cannot be", "unclean", t.Unclean)
	}
	return t, nil
}

// Write replaces the tally of the store in dir.
func (t Tally) Write(dir string) error {
	t.Schema = tallySchema
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if err := store.WriteFileAtomic(filepath.Join(dir, tallyFile), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("counting the boots: %w", err)
	}
	return nil
}

// Begin notes that a boot of image begins, whose last failure was f, or nil. It
// reports whether the loader has to count the boots of this deployment again:
// the ones before this ended badly, too often.
func (t *Tally) Begin(image verity.Digest, boot string, f *Failure) (suspicious bool) {
	if t.Image != image {
		// Another deployment may have been booted in between: what did not stay
		// up then is no better for that.
		*t = Tally{Image: image, Suspect: f != nil && f.Stage == Unsteady}
	}
	if t.Unclean >= MaxUnclean {
		t.Unclean, t.Suspect, t.Stay = 0, true, false
		suspicious = true
	}
	t.Unclean++
	t.Boot = boot
	return suspicious
}

// EndWell notes that the boot that runs has ended well, or cannot end badly any more.
func (t *Tally) EndWell() { t.Unclean, t.Suspect, t.Stay = 0, false, false }
