//go:build vm && slow

package vm

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/vmtest"
)

const varPassphrase = "Fuge und Lager"

// TestVarDisk: a medium with answers installs the system to one disk and /var to
// another, both encrypted. One passphrase opens both, whatever the second one is plugged
// into; what is written to /var is there at the next boot, and nowhere to be read. Without
// the second disk the boot says which one is missing, and nothing is held against the
// release.
func TestVarDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := `schema = 1
then = "wait"
[disk]
id = "disk"
[var]
disk = "other2"
[encryption]
passphrase = "` + varPassphrase + `"
[system]
hostname = "story"
[user]
name = "ada"
password = "secret words"
`
	medium := theMedium(t).write(t, text)
	blank, vars := filepath.Join(dir, "blank"), filepath.Join(dir, "vars")
	writeDisk(t, blank, 8<<30, false)
	writeDisk(t, vars, 2<<30, false)

	m := newMachineWith(t, vmtest.Config{
		Name: "from the medium", Base: blank, Bus: vmtest.NVMe, Closed: true,
		Others: []vmtest.Disk{{Image: medium, Bus: vmtest.SATA, Boot: true}, {Image: vars, Bus: vmtest.NVMe, Kept: true}},
	})
	m.step("boot", m.Boot)
	m.installed()
	m.expectContains("the kernel's log", m.sh("dmesg"), "with /var on nvme-QEMU_NVMe_Ctrl_other2")
	installed := m.takeDisk()

	d := newMachineWith(t, vmtest.Config{
		Name: "from the disk", Base: installed, Bus: vmtest.SATA, Closed: true,
		Others: []vmtest.Disk{{Image: vars, Kept: true}},
	})
	d.bootEncrypted()
	d.expectVarOn("vda", "/dev/vda1")
	d.expectContains("verify", d.sh("ashlar verify"), "good:")
	d.expect("user", d.sh("id -un 1000; stat -c %U:%a /home/ada"), "ada\nada:700")
	d.expectContains("report", d.sh("cat /var/log/ashlar/install.json"), `"equal": true`)
	d.sh("echo thesis-of-the-story > /home/ada/thesis && sync")
	d.step("shutdown", d.Shutdown)
	if found, err := contains(vars, []byte("thesis-of-the-story")); err != nil || found {
		t.Errorf("what was written to /var is on the disk for all to read (%v)", err)
	}

	d.Others = nil
	d.step("start", d.Start)
	d.answer(askedForSDA, varPassphrase+"\r")
	d.step("refusal", func(ctx context.Context) error {
		_, err := d.WaitConsole(ctx, `cannot boot: the disk "nvme-QEMU_NVMe_Ctrl_other2[^"]*", which has this machine's /var \(partition [0-9a-f-]{36}\), did not appear within 30s: plug it in; disks with a GPT: "sda"\. The machine reboots`)
		return err
	})
	d.PowerCut()
	d.step("reading the ESP", func(ctx context.Context) error {
		files, err := d.ESP(ctx)
		if counted := strings.Join(files, " "); strings.Contains(counted, "+") {
			t.Errorf("the loader counts again: %s", counted)
		}
		return err
	})

	d.Others = []vmtest.Disk{{Image: vars, Bus: vmtest.NVMe, Kept: true}}
	d.bootEncrypted()
	d.expectVarOn("nvme0n1", "/dev/nvme0n1p1")
	d.expect("what was written", d.sh("cat /home/ada/thesis"), "thesis-of-the-story")
	d.expectContains("history", d.sh("ashlar history"), "which has this machine's /var")

	d.sh("ashlar reset --confirm story")
	d.step("shutdown", d.Shutdown)
	d.Others = []vmtest.Disk{{Image: vars, Kept: true}}
	d.bootEncrypted()
	d.expectVarOn("vda", "/dev/vda1")
	d.expect("after the reset", d.sh(`ls /var/home/ada 2>/dev/null; [ "$(hostname)" = story ] || echo another name`), "another name")
}

const askedForSDA = `the disk "sda" is encrypted\.\s+Passphrase or recovery key: `

// bootEncrypted starts the machine and gives the one passphrase.
func (m *machine) bootEncrypted() {
	m.t.Helper()
	m.step("start", m.Start)
	m.answer(askedForSDA, varPassphrase+"\r")
	m.step("boot", m.WaitReady)
	m.expectUp()
}

// expectVarOn checks that /var is in an encrypted partition of that disk, and mounted
// once.
func (m *machine) expectVarOn(disk, partition string) {
	m.t.Helper()
	var record struct {
		RootDevice string `json:"root_device"`
		Var        struct {
			ID, Disk, Device string
			Encryption       struct{ Device string }
		}
	}
	if err := json.Unmarshal([]byte(m.sh("cat /run/ashlar/boot.json")), &record); err != nil {
		m.t.Fatal(err)
	}
	v := record.Var
	if v.Disk != disk || v.Encryption.Device != partition || !strings.HasPrefix(v.Device, "/dev/dm-") || v.Device == record.RootDevice {
		m.t.Errorf("boot.json: %+v", record)
	}
	m.expect("what is mounted where", m.sh("findmnt -rnvo TARGET -S "+v.Device), "/var")
	m.expect("its place in the store", m.sh("ls -A /sysroot/ashlar/var"), "")
	m.expectContains("status", m.sh("ashlar status"), `var         on "`+v.Device+`" of the disk `+v.ID+", encrypted (LUKS2); ")
}
