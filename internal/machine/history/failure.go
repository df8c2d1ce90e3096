package history

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ashlar-os/ashlar/internal/machine/store"
)

// FailureFile is the name of the Failure in a deployment's directory.
const FailureFile = "failure"

// Stage is how far a boot came that failed.
type Stage string

// The stages, in their order.
const (
	Initramfs Stage = "initramfs" // ashlar-init could not start the system
	Unsteady  Stage = "unsteady"  // the system started, and again and again did not stay up
	Starting  Stage = "starting"  // the system did not finish its start
	Checking  Stage = "checking"  // it did, and a health check failed
)

var stages = map[Stage]int{Initramfs: 1, Unsteady: 2, Starting: 3, Checking: 4}

// Failure says why the last boot of a deployment failed.
type Failure struct {
	Schema int      `json:"schema"`
	Time   string   `json:"time"` // RFC 3339, UTC, as the machine's clock had it
	Boot   string   `json:"boot"` // the kernel's id of that boot
	ID     string   `json:"id"`   // NAME-VERSION
	Stage  Stage    `json:"stage"`
	Check  string   `json:"check"`  // the check that failed: "target", a unit, "network", or an executable's path
	Reason string   `json:"reason"` // a sentence without its full stop
	Passed int      `json:"passed"` // how many checks were passed
	Lines  []string `json:"lines"`  // the last ones of the unit's journal, or that the executable said
}

const (
	failureSchema = 1
	maxFailure    = 64 << 10 // bytes of the file
	maxLines      = 40
	maxLineText   = 300 // bytes of a line
	maxReason     = 1 << 10
)

// Further compares how far the boots came that two failures ended: negative
// when a's ended earlier than b's. No record at all is the shortest way.
func Further(a, b *Failure) int {
	switch {
	case a == nil || b == nil:
		return cmpBool(a != nil, b != nil)
	case stages[a.Stage] != stages[b.Stage]:
		return cmp.Compare(stages[a.Stage], stages[b.Stage])
	}
	return cmp.Compare(a.Passed, b.Passed)
}

func cmpBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// WriteFailure keeps f in a deployment's directory, in place of an earlier one.
func WriteFailure(dir string, f Failure) error {
	f.Schema = failureSchema
	if f.Time == "" {
		f.Time = time.Now().UTC().Format(time.RFC3339)
	}
	f.tidy()
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return store.WriteFileAtomic(filepath.Join(dir, FailureFile), append(text, '\n'), 0o644)
}

// ReadFailure reads what WriteFailure left in a deployment's directory, or nil.
// A file that is not so is taken for a reason in words.
func ReadFailure(dir string) *Failure {
	text, err := readTail(filepath.Join(dir, FailureFile), maxFailure)
	if err != nil {
		return nil
	}
	return decodeFailure(text)
}

func decodeFailure(text []byte) *Failure {
	f := &Failure{}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(f); err != nil || f.Schema != failureSchema || stages[f.Stage] == 0 || f.Passed < 0 {
		f = &Failure{Schema: failureSchema, Stage: Initramfs, Reason: string(text)}
	}
	f.tidy()
	return f
}

// tidy makes every text fit to be kept and shown.
func (f *Failure) tidy() {
	f.Time, f.Boot, f.ID = oneLine(f.Time, 64), oneLine(f.Boot, 64), oneLine(f.ID, 256)
	f.Check, f.Reason = oneLine(f.Check, 256), oneLine(f.Reason, maxReason)
	f.Lines = Lines(strings.Join(f.Lines, "\n"))
}

// ForgetFailure removes the record of a failure; none is no error.
func ForgetFailure(dir string) error {
	err := os.Remove(filepath.Join(dir, FailureFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// BootID is the kernel's id of this boot, empty where root has no /proc.
func BootID(root string) string {
	b, err := readTail(filepath.Join(root, "proc/sys/kernel/random/boot_id"), 64)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
