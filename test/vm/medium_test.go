//go:build vm

package vm

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/machine/sysroot"
	"github.com/ashlar-os/ashlar/internal/vmtest"
)

// TestMedium: one image starts as a disc and as a disk; what runs is the release,
// sealed, which changes nothing; and a medium that was changed is refused by the
// block, before anything of it runs.
func TestMedium(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	image := filepath.Join(dir, "medium.iso")
	ctx, cancel := stepContext()
	defer cancel()
	if _, err := fx.BuildMedium(ctx, "closed", filepath.Join(dir, "out"), image); err != nil {
		t.Fatal(err)
	}
	t.Run("as a disc", func(t *testing.T) { runsFromMedium(t, image, vmtest.CD, "/dev/sr0") })
	t.Run("as a disk", func(t *testing.T) { runsFromMedium(t, image, vmtest.SATA, "/dev/sda") })
	t.Run("changed", func(t *testing.T) { refusesChangedMedium(t, image) })
}

func runsFromMedium(t *testing.T, image string, bus vmtest.Bus, device string) {
	t.Parallel()
	m := newMachineWith(t, vmtest.Config{Base: image, Bus: bus, Closed: true})
	m.step("boot", m.Boot)
	m.sh("systemctl is-system-running --wait >/dev/null; systemctl is-active multi-user.target")

	var record sysroot.Record
	if err := json.Unmarshal([]byte(m.sh("cat "+sysroot.RecordPath)), &record); err != nil {
		t.Fatal(err)
	}
	if r := record.Medium; r == nil || r.Device != device || r.Papers.Length != medium.PapersSize || r.Answers.Length != medium.AnswersSize || record.Foreign != sysroot.ForeignRefuse {
		t.Errorf("boot.json: %+v", record)
	}
	m.expect("tmpfs, EROFS and overlays", m.sh("for at in / /sysroot /etc /var; do findmnt -no FSTYPE $at; done"), "overlay\nerofs\noverlay\ntmpfs")
	said := m.sh("ashlar status")
	m.expectContains("status", said, `medium      "`+device+`" runs server-1.0.0, image `+record.Image.Short())
	m.expectContains("status", said, "root        sealed: the kernel checks every block of the medium")
	for _, verb := range []string{"update", "gc", "rollback", "verify", "boot-record"} {
		m.expectContains("ashlar "+verb, m.fails("ashlar "+verb), `this system runs from the install medium "`+device+`", which nothing changes`)
	}
	for _, unit := range []string{"ashlar-booted.service", "ashlar-health.service", "ashlar-update.timer", "ashlar-settled.timer"} {
		m.expect(unit, m.sh("systemctl is-active "+unit+" || true"), "inactive")
	}

	// Nothing can be written but to memory, and nobody takes the medium for a disk.
	m.fails("touch /usr/intruder")
	m.fails("touch /sysroot/intruder")
	m.fails("mount -o remount,rw /sysroot")
	m.fails("blockdev --setrw " + record.Medium.Payload + " && dd if=/dev/zero of=" + record.Medium.Payload + " bs=4096 count=1 conv=fsync")
	if bus != vmtest.CD {
		m.sh("mkdir /run/story")
		m.fails("mount " + device + "1 /run/story") // its ESP: the whole device is taken
	}
	m.sh("echo gone > /etc/story && echo gone > /var/lib/story && sync")
	m.step("reboot", m.Reboot)
	m.expect("what was written before", m.sh("ls /etc/story /var/lib/story 2>/dev/null; true"), "")
}

// refusesChangedMedium changes one byte in the middle of the payload, which nothing
// at the start needs.
func refusesChangedMedium(t *testing.T, image string) {
	t.Parallel()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := gpt.Read(f, medium.SectorSize)
	if err != nil {
		t.Fatal(err)
	}
	const block = 9999
	m := newMachineWith(t, vmtest.Config{Base: image, Bus: vmtest.SATA, Closed: true})
	m.step("changing a byte", func(ctx context.Context) error {
		return m.Edit(ctx, func(raw string) error {
			for _, p := range table.Partitions {
				if p.Type == medium.TypePayload {
					return vmtest.FlipByte(raw, p.Start+block*medium.BlockSize+77)
				}
			}
			return os.ErrNotExist
		})
	})
	m.step("start", m.Start)
	m.step("refusal", func(ctx context.Context) error {
		_, err := m.WaitConsole(ctx, `ashlar: cannot boot: the medium "/dev/sda" is damaged or was changed: block 9999 of its payload is not what was signed\. The machine turns itself off in 60 seconds\.`)
		return err
	})
	m.step("turning off", m.Wait)
	if strings.Contains(m.consoleLog(), "systemd[1]") {
		t.Error("something of a changed medium was started")
	}
}
