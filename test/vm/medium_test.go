//go:build vm

package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	format "github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/machine/sysroot"
	"github.com/ashlar-os/ashlar/internal/vmtest"
)

// TestMedium: one image starts as a disc and as a stick; what runs is the release,
// sealed, which changes nothing; and a medium of which one bit was changed is refused:
// by the block, by the boot file, by the paper.
func TestMedium(t *testing.T) {
	t.Parallel()
	image := theMedium(t).image
	t.Run("as a disc", func(t *testing.T) { runsFromMedium(t, image, vmtest.CD, "/dev/sr0") })
	t.Run("as a stick", func(t *testing.T) { runsFromMedium(t, image, vmtest.USB, "/dev/sda") })
	t.Run("changed payload", func(t *testing.T) { refusesChangedPayload(t, image) })
	t.Run("changed boot file", func(t *testing.T) { refusesChangedBootFile(t, image) })
	t.Run("changed papers", func(t *testing.T) { refusesChangedPapers(t) })
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
	if r := record.Medium; r == nil || r.Device != device || r.Papers.Length != format.PapersSize || r.Answers.Length != format.AnswersSize || record.Foreign != sysroot.ForeignRefuse {
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

// refusesChangedPayload changes one bit in the middle of the payload, which nothing
// at the start needs.
func refusesChangedPayload(t *testing.T, image string) {
	t.Parallel()
	const block = 9999
	m := newMachineWith(t, vmtest.Config{Base: image, Bus: vmtest.USB, Closed: true})
	m.flipOnMedium(format.TypePayload, func(io.ReaderAt, gpt.Partition) (int64, error) { return block*format.BlockSize + 77, nil })
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

// refusesChangedBootFile changes one bit of the root hash in the boot file's command
// line. Firmware that has keys does not start that.
func refusesChangedBootFile(t *testing.T, image string) {
	t.Parallel()
	m := newMachineWith(t, vmtest.Config{Base: image, Bus: vmtest.USB, Closed: true, Firmware: vmtest.OVMFSecureBoot})
	m.flipOnMedium(gpt.TypeESP, func(r io.ReaderAt, p gpt.Partition) (int64, error) {
		at, err := find(r, p, "ashlar.medium=")
		return at + int64(len("ashlar.medium=")), err
	})
	m.step("start", m.Start) // the loader enrols the keys, and the firmware starts again
	m.step("refusal", func(ctx context.Context) error {
		_, err := m.WaitConsole(ctx, "Error loading .*ashlar-media_1.0.0.*(Access denied|Security violation)")
		return err
	})
	m.PowerCut()
	if strings.Contains(m.consoleLog(), "ashlar-init") {
		t.Error("something of a changed medium was started")
	}
}

// refusesChangedPapers changes one bit of the root of trust that the medium carries with
// it. The system is sealed, and starts; it installs nothing.
func refusesChangedPapers(t *testing.T) {
	t.Parallel()
	blank := filepath.Join(t.TempDir(), "blank")
	writeDisk(t, blank, 8<<30, false)
	m := newMachineWith(t, vmtest.Config{Base: theMedium(t).write(t, "schema = 1\n[disk]\nid = \"disk\"\n"), Bus: vmtest.USB, Closed: true,
		Others: []vmtest.Disk{{Image: blank, Bus: vmtest.NVMe}}})
	m.flipOnMedium(format.TypePapers, func(r io.ReaderAt, p gpt.Partition) (int64, error) {
		root, err := find(r, p, "trust/1.root.json")
		if err != nil {
			return 0, err
		}
		p.Start, p.Size = p.Start+root, p.Size-root
		at, err := find(r, p, `"threshold":`)
		return root + at + 1, err
	})
	m.step("start", m.Start)
	m.step("refusal", func(ctx context.Context) error {
		_, err := m.WaitConsole(ctx, `ashlar-install: cannot trust this medium: the file "1\.root\.json": `)
		return err
	})
	m.step("boot", m.WaitReady)
	m.expect("the disk", m.sh("cmp -n 1048576 /dev/nvme0n1 /dev/zero && echo empty"), "empty")
}

// flipOnMedium changes one bit of a partition of the machine's disk, which is a medium,
// at the offset that where finds in it.
func (m *machine) flipOnMedium(kind gpt.UUID, where func(io.ReaderAt, gpt.Partition) (int64, error)) {
	m.t.Helper()
	m.step("changing a bit", func(ctx context.Context) error {
		return m.Edit(ctx, func(raw string) error {
			f, err := os.OpenFile(raw, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			table, err := gpt.Read(f, format.SectorSize)
			if err != nil {
				return err
			}
			for _, p := range table.Partitions {
				if p.Type != kind {
					continue
				}
				at, err := where(f, p)
				if err != nil {
					return err
				}
				b := make([]byte, 1)
				if _, err := f.ReadAt(b, p.Start+at); err != nil {
					return err
				}
				b[0] ^= 1
				_, err = f.WriteAt(b, p.Start+at)
				return err
			}
			return os.ErrNotExist
		})
	})
}

// find is where a text begins in a partition.
func find(r io.ReaderAt, p gpt.Partition, text string) (int64, error) {
	b := make([]byte, p.Size)
	if _, err := r.ReadAt(b, p.Start); err != nil {
		return 0, err
	}
	at := bytes.Index(b, []byte(text))
	if at < 0 {
		return 0, fmt.Errorf("%q is not on the medium", text)
	}
	return int64(at), nil
}
