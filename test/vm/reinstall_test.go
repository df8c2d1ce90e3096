//go:build vm && slow

package vm

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/ashlar-os/ashlar/internal/vmtest"
)

// TestReinstall: an installation whose power is cut is made again by the same medium. What
// somebody keeps in /home outlives the next installation, which keeps /var, and not the
// reset of the machine.
func TestReinstall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	im := theMedium(t)
	disk := filepath.Join(dir, "disk")
	writeDisk(t, disk, 8<<30, true)
	m := installing(t, "a new machine", disk, im.write(t, `schema = 1
[disk]
id = "disk"
erase = "disk"
[system]
hostname = "first"
[user]
name = "ada"
password = "secret words"
`))
	m.step("start", m.Start)
	m.step("installing", func(ctx context.Context) error {
		_, err := m.WaitConsole(ctx, `ashlar-install: copying the system`)
		return err
	})
	m.PowerCut()
	m.step("start", m.Start) // from the medium: it is the first in the firmware's order
	m.installed()
	m.step("turning off", m.Wait)
	m.step("taking the disk", func(ctx context.Context) error { return m.Snapshot(ctx, filepath.Join(dir, "first")) })

	d := newMachineWith(t, vmtest.Config{Name: "first", Base: filepath.Join(dir, "first"), Bus: vmtest.NVMe, Closed: true})
	d.boot()
	d.expectContains("verify", d.sh("ashlar verify"), "good:")
	d.sh("su ada -c 'echo mine > ~/file'; echo edited > /etc/motd; echo kept > /var/lib/story")
	kept := d.takeDisk()

	m = installing(t, "keeping /var", kept, im.write(t, `schema = 1
[disk]
id = "disk"
keep_var = true
[system]
hostname = "second"
[user]
name = "ada"
password = "other words"
`))
	m.step("start", m.Start)
	m.installed()
	m.step("turning off", m.Wait)
	m.step("taking the disk", func(ctx context.Context) error { return m.Snapshot(ctx, filepath.Join(dir, "second")) })

	d = newMachineWith(t, vmtest.Config{Name: "second", Base: filepath.Join(dir, "second"), Bus: vmtest.NVMe, Closed: true})
	d.boot()
	d.expectContains("verify", d.sh("ashlar verify"), "good:")
	d.expect("what was kept, and whose it is", d.sh("cat /home/ada/file /var/lib/story; stat -c %U /home/ada/file; hostname"), "mine\nkept\nada\nsecond")
	d.expect("what was not", d.sh("cat /etc/motd"), "This is release 1.0.0.")

	d.expectContains("reset", d.sh("ashlar reset --confirm second"), "the next boot")
	d.reboot()
	d.expect("after the reset", d.sh("ls -A /home/; ls /var/lib/story 2>/dev/null; hostname; id -u ada 2>/dev/null; true"), "server")
	d.expectContains("verify", d.sh("ashlar verify"), "good:")
	d.expectContains("history", d.sh("ashlar history"), "reset")
}

// installing is a machine that a medium is in.
func installing(t *testing.T, name, disk, medium string) *machine {
	t.Helper()
	return newMachineWith(t, vmtest.Config{
		Name: name, Base: disk, Bus: vmtest.NVMe, Closed: true, Offline: true,
		Others: []vmtest.Disk{{Image: medium, Bus: vmtest.SATA, Boot: true}},
	})
}
