//go:build vm

package vm

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/machine/install"
	"github.com/ashlar-os/ashlar/internal/machine/sysroot"
	"github.com/ashlar-os/ashlar/internal/vmtest"
	"github.com/ashlar-os/ashlar/internal/vmtest/liar"
)

// TestUnattendedInstall: a stick that dd wrote, larger than the medium, installs to the
// disk that its answers name, with no network, nobody there, and Secure Boot on. The other
// disk is as it was, and is not taken without its name. And the disk starts the release
// that is signed, whole, the same as a disk image has it.
//
// Before the stick goes it copies itself, or tries to: the other stick is a counterfeit.
func TestUnattendedInstall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	im := theMedium(t)
	stick, blank, other := filepath.Join(dir, "stick"), filepath.Join(dir, "blank"), filepath.Join(dir, "other")
	writeDisk(t, stick, 4<<30, false)
	dd(t, im.write(t, `schema = 1
then = "wait"
[disk]
id = "disk"
[system]
hostname = "story"
[user]
name = "ada"
password = "secret words"
`), stick)
	writeDisk(t, blank, 8<<30, false)
	writeDisk(t, other, 64<<20, true)
	counterfeit := serveLiar(t, &liar.Drive{Claims: 8 << 30, Real: 64 << 20, Wraps: true})

	m := newMachineWith(t, vmtest.Config{
		Name: "from the medium", Base: blank, Bus: vmtest.NVMe, Closed: true, Offline: true, Firmware: vmtest.OVMFSecureBoot,
		Others: []vmtest.Disk{{Image: stick, Bus: vmtest.USB, Boot: true}, {Image: other, Bus: vmtest.NVMe}},
		Args: []string{"-drive", "if=none,id=liar,format=raw,file.driver=nbd,file.server.type=unix,file.server.path=" + counterfeit,
			"-device", "qemu-xhci,id=liar-hub", "-device", "usb-storage,bus=liar-hub.0,drive=liar,removable=on,serial=LIAR"},
	})
	m.step("boot", m.Boot)
	m.installed()
	m.expectContains("the first start", m.consoleLog(), "Custom Secure Boot keys successfully enrolled, rebooting the system now!")
	m.expectContains("the kernel", m.sh("dmesg"), "Secure boot enabled")
	m.expectContains("the kernel's log", m.sh("dmesg"), "ashlar-install: Installed server-1.0.0")
	running := m.sh(`sed -n 's/.*ashlar.image=\([0-9a-f]*\).*/\1/p' /proc/cmdline`)

	m.expectContains("a disk without its name", m.fails("ashlar install --plan --json --disk other2"), "is not empty")
	m.expect("the other disk", strings.Fields(m.sh("sync; sha256sum /dev/disk/by-id/nvme-*_other2"))[0], sumFile(t, other))

	var record sysroot.Record
	if err := json.Unmarshal([]byte(m.sh("cat "+sysroot.RecordPath)), &record); err != nil {
		t.Fatal(err)
	}
	said := m.fails("ashlar media write " + record.Medium.Device + " --to /dev/disk/by-id/usb-*LIAR-0:0 --yes")
	m.expectContains("writing to a counterfeit", said, "it claims 8.59 GB and has at most 0.07 GB: what is written beyond that overwrites its beginning")
	m.expectContains("writing to a counterfeit", said, "it is a counterfeit")
	installed, firmware := m.takeDisk(), m.firmware()

	image := filepath.Join(dir, "image.raw")
	ctx, cancel := stepContext()
	defer cancel()
	if _, err := fx.Ashlar(ctx, "disk", im.out+":1.0.0", "-o", image); err != nil {
		t.Fatal(err)
	}
	m.expect("boot files, as on a disk image", fmt.Sprint(bootFiles(t, installed)), fmt.Sprint(bootFiles(t, image)))

	d := newMachineWith(t, vmtest.Config{Name: "from the disk", Base: installed, Bus: vmtest.NVMe, Closed: true, Firmware: firmware})
	d.boot()
	d.expectContains("command line", d.sh("cat /proc/cmdline"), "ashlar.image="+running)
	d.expectContains("verify", d.sh("ashlar verify"), "good:")
	said = d.sh("ashlar status")
	d.expectContains("status", said, "server-1.0.0")
	d.expectContains("status", said, "secure boot on: the firmware starts only what its db allows\n")
	d.expect("host name", d.sh("hostname"), "story")
	d.expect("user", d.sh("id -un 1000; stat -c %U:%a /home/ada"), "ada\nada:700")
	d.expectContains("history", d.sh("ashlar history"), "installed")
	d.expect("sealed by the first boot", fmt.Sprint(d.sealedByBoot()), "0")
	var report install.Report
	if err := json.Unmarshal([]byte(d.sh("cat "+install.ReportPath)), &report); err != nil {
		t.Fatal(err)
	}
	if v := report.Verified; v == nil || !v.Equal || v.Image.String() != running || v.Objects == 0 {
		t.Errorf("the report says %+v", v)
	}
}

// serveLiar serves a drive that lies, and returns its socket.
func serveLiar(t *testing.T, d *liar.Drive) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "nbd")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- d.Serve(l) }()
	t.Cleanup(func() {
		l.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return socket
}
