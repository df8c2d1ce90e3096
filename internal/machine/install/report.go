package install

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/store"
)

// ReportSchema is the version of install.json.
const ReportSchema = 1

// ReportPath is where the installed machine has the report.
const ReportPath = "/var/log/ashlar/install.json"

// Report is install.json: what was installed, and what was found when it was read back.
type Report struct {
	Schema    int       `json:"schema"`
	Plan      *Plan     `json:"plan"`
	Started   time.Time `json:"started"`
	Finished  time.Time `json:"finished"`
	Verified  *Verified `json:"verified"`
	BootEntry string    `json:"boot_entry"` // of the firmware, a sentence
	Log       []Entry   `json:"log"`
}

// Verified is what the disk was found to hold.
type Verified struct {
	Image   verity.Digest `json:"image"`  // as measured and read from the disk
	Signed  verity.Digest `json:"signed"` // as the signed release names it
	Equal   bool          `json:"equal"`
	Objects int           `json:"objects"` // read
	Bytes   int64         `json:"bytes"`   // read
}

// Entry is one line of the log.
type Entry struct {
	Time time.Time `json:"time"`
	Step string    `json:"step"`
}

func newReport(p *Plan, now time.Time) Report {
	return Report{Schema: ReportSchema, Plan: p, Started: now.UTC().Truncate(time.Second), Log: []Entry{}}
}

func (r *Report) note(now time.Time, step string) {
	r.Log = append(r.Log, Entry{now.UTC().Truncate(time.Second), step})
}

// write keeps the report on the installed machine.
func (r *Report) write(vars string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(vars, "log/ashlar/install.json")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := store.WriteFileAtomic(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// Lines says in words what was done.
func (r *Report) Lines() []string {
	v := r.Verified
	if v == nil {
		return nil
	}
	where := r.Plan.Disk.ID
	if r.Plan.Var != nil {
		where += ", with /var on " + r.Plan.Var.Disk.ID
	}
	return []string{
		fmt.Sprintf("Installed %s on %s.", r.Plan.Release.ID, where),
		fmt.Sprintf("Read back from the disk: %d objects, %d MB.", v.Objects, v.Bytes/1e6),
		fmt.Sprintf("Image on the disk: %s", v.Image),
		fmt.Sprintf("Image that is signed: %s", v.Signed),
		"They are equal.",
		"Boot entry: " + r.BootEntry + ".",
	}
}
