//go:build vm && slow

package vm

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/vmtest"
)

// TestAskedInstall: somebody at a serial console answers five questions, types the
// name of a disk that is not empty, and the disk starts what was signed.
func TestAskedInstall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	medium := writeMedium(t, dir, "")
	disk := filepath.Join(dir, "disk")
	writeDisk(t, disk, 8<<30, true)
	m := newMachineWith(t, vmtest.Config{
		Name: "from the medium", Base: disk, Bus: vmtest.NVMe, Closed: true,
		Others: []vmtest.Disk{{Image: medium, Bus: vmtest.SATA, Boot: true}},
	})
	m.step("start", m.Start)
	m.answer(`1 of 5`, "\r")
	m.answer(`2 of 5`, "\r\r\r")
	m.answer(`3 of 5`, "asked\r")
	m.answer(`4 of 5`, "ada\rAda Lovelace\rsecret\rsecret\r\r")
	m.answer(`5 of 5`, "\r\r")
	m.answer(`This will be done\.`, "\r")
	m.answer(`To go on, type the disk's name`, "nvme0n1\r")
	m.step("installing", func(ctx context.Context) error {
		_, err := m.WaitConsole(ctx, `They are equal\.`)
		return err
	})
	if strings.Contains(m.consoleLog(), "secret") {
		t.Error("the console shows the password")
	}
	installed := filepath.Join(dir, "installed")
	m.PowerCut() // nothing is left to write
	m.step("taking the disk", func(ctx context.Context) error { return m.Snapshot(ctx, installed) })
	d := newMachineWith(t, vmtest.Config{Name: "from the disk", Base: installed, Closed: true})
	d.boot()
	d.expectContains("verify", d.sh("ashlar verify"), "good:")
	d.expect("host name and user", d.sh("hostname; id -un 1000"), "asked\nada")
}
