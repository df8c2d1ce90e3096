//go:build vm && slow

package vm

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/vmtest"
)

// TestAskedInstall: a disc, and somebody at a serial console who answers five questions,
// has the disk encrypted, and types the name of a disk that is not empty. The disk asks
// for its passphrase, takes no other, and starts what was signed.
func TestAskedInstall(t *testing.T) {
	t.Parallel()
	disk := filepath.Join(t.TempDir(), "disk")
	writeDisk(t, disk, 8<<30, true)
	m := newMachineWith(t, vmtest.Config{
		Name: "from the medium", Base: disk, Bus: vmtest.NVMe, Closed: true, Offline: true,
		Others: []vmtest.Disk{{Image: theMedium(t).write(t, ""), Bus: vmtest.CD, Boot: true}},
	})
	m.step("start", m.Start)
	m.answer(`1 of 5  Which`, "\r")
	m.answer(`2 of 5  Language`, "\r\r\r")
	m.answer(`3 of 5  What`, "asked\r")
	m.answer(`4 of 5  Who`, "ada\rAda Lovelace\rsecret\rsecret\r\r")
	m.answer(`5 of 5  Encrypt`, "mortar\rmortar\r")
	m.answer(`This will be done\.`, "sdb\r")
	m.answer(`To go on, type the disk's name`, "\x7f\x7f\x7fnvme0n1\r")
	m.installed()
	if said := m.consoleLog(); strings.Contains(said, "secret") || strings.Contains(said, "mortar") {
		t.Error("the console shows the password or the passphrase")
	}
	installed := filepath.Join(t.TempDir(), "installed")
	m.PowerCut() // nothing is left to write
	m.step("taking the disk", func(ctx context.Context) error { return m.Snapshot(ctx, installed) })

	d := newMachineWith(t, vmtest.Config{Name: "from the disk", Base: installed, Bus: vmtest.NVMe, Closed: true})
	d.step("start", d.Start)
	d.answer(`Passphrase or recovery key: `, "plaster\r")
	d.answer(`that is neither its passphrase nor its recovery key; nothing was changed, try again\.\s+Passphrase or recovery key: `, "mortar\r")
	d.step("boot", d.WaitReady)
	d.expectUp()
	d.expectContains("status", d.sh("ashlar status"), "is LUKS2; unlocked after 1 wrong passphrase")
	d.expectContains("verify", d.sh("ashlar verify"), "good:")
	d.expect("host name and user", d.sh("hostname; id -un 1000"), "asked\nada")
}
