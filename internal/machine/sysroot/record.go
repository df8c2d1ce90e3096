package sysroot

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/history"
)

// RecordSchema is the version of boot.json.
const RecordSchema = 1

// Values of Record.Foreign: whether this image takes kernel parameters and
// credentials from anybody but its boot file.
const (
	ForeignRefuse = "refuse"
	ForeignAccept = "accept"
)

// RecordPath is where the running system finds the Record of its boot.
const RecordPath = "/run/ashlar/boot.json"

// Record is boot.json: what the first process found and did. See docs/boot.md.
type Record struct {
	Schema       int           `json:"schema"`
	Image        verity.Digest `json:"image"`
	Disk         string        `json:"disk"`        // such as "vda"
	RootDevice   string        `json:"root_device"` // such as "/dev/vda2", or "/dev/dm-0" in an encrypted one
	RootPartUUID string        `json:"root_partuuid"`
	ESPPartUUID  string        `json:"esp_partuuid"`
	FileSystem   string        `json:"file_system"` // of the root partition: "ext4" or "btrfs"; "erofs" on a medium
	Encryption   *Encryption   `json:"encryption"`  // of the root partition; null: not encrypted
	Var          *Var          `json:"var"`         // the disk that /var has of its own; null: it is on the root partition
	Medium       *Medium       `json:"medium"`      // that the system runs from; null: it is installed
	Foreign      string        `json:"foreign"`     // ForeignRefuse or ForeignAccept
	Ignored      []string      `json:"ignored"`     // what the ESP and the firmware offered, and was not taken
	Sealed       int           `json:"sealed"`      // objects and images sealed by this boot; 0 but at the first
	Etc          string        `json:"etc"`         // "merged" by this boot, or "kept"
	KernelMS     int64         `json:"kernel_ms"`   // from the kernel's start to this process
	InitMS       int64         `json:"init_ms"`     // from there to systemd
	Steps        []Step        `json:"steps"`
	Modules      []Step        `json:"modules"` // in the order in which they were loaded
}

// Step is a part of the boot and the time that it took.
type Step struct {
	Name string `json:"name"`
	MS   int64  `json:"ms"`
}

// writeRecord writes boot.json into dir. It is the last thing that is done.
func (b *boot) writeRecord(dir string) error {
	b.record.Schema = RecordSchema
	b.record.InitMS = time.Since(b.start).Milliseconds()
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err == nil {
		b.record.KernelMS = up.Nano()/int64(time.Millisecond) - b.record.InitMS
	}
	text, err := json.MarshalIndent(b.record, "", "  ")
	if err != nil {
		return fmt.Errorf("writing %q: %w", RecordPath, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	say(levelInfo, fmt.Sprintf("image %s is mounted, starting systemd after %d ms", b.params.image.Short(), b.record.InitMS))
	return os.WriteFile(filepath.Join(dir, filepath.Base(RecordPath)), append(text, '\n'), 0o644)
}

// noteFailure leaves the reason of a failed boot in its deployment, for the
// deployment that boots instead to report. It is all that can be done about a
// failure, so its own failure is not looked at.
func (b *boot) noteFailure(reason error) {
	if b.store == nil || reason == nil {
		return
	}
	dir := b.store.DeploymentPath(b.params.image)
	last := history.ReadFailure(dir)
	if _, err := os.Lstat(dir); err == nil {
		_ = history.WriteFailure(dir, history.Failure{
			Boot: history.BootID("/"), ID: b.id(), Stage: history.Initramfs, Reason: reason.Error(),
		})
	}
	var lost *varError
	if again := errors.As(reason, &lost) && last != nil && last.Reason == reason.Error(); again {
		return // it may be so for days, and the history has an end
	}
	b.tell(history.Failed, reason.Error())
}
