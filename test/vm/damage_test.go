//go:build vm

package vm

import (
	"context"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/vmtest"
)

// rootPartition is the number of the root partition on a machine's disk.
const rootPartition = 2

// flip inverts the first byte of a file on the disk of a machine that is off.
func (m *machine) flip(path string) {
	m.t.Helper()
	m.step("flip a byte of "+path, func(ctx context.Context) error {
		return m.Edit(ctx, func(raw string) error {
			offset, err := vmtest.FileOffset(ctx, raw, rootPartition, path)
			if err != nil {
				return err
			}
			return vmtest.FlipByte(raw, offset)
		})
	})
}

// objectOf is the digest of a file's content in a release.
func objectOf(t *testing.T, version, path string) string {
	t.Helper()
	ctx, cancel := stepContext()
	defer cancel()
	image, err := fx.Image(ctx, version)
	if err != nil {
		t.Fatal(err)
	}
	n := image.Lookup(path)
	if n == nil || n.Inode().Digest.IsZero() {
		t.Fatalf("%s has no object in %s", path, version)
	}
	return n.Inode().Digest.String()
}

// TestOneByteOfOneObject: the damaged file cannot be read, everything else
// goes on, and verify names the file.
func TestOneByteOfOneObject(t *testing.T) {
	t.Parallel()
	m := newMachine(t, sealed, "vm")
	m.boot()
	// A file that nothing reads by itself.
	const victim = "/usr/bin/nano"
	digest := objectOf(t, "1.0.0", victim)
	m.step("shutdown", m.Shutdown)
	m.flip("/ashlar/objects/" + digest[:2] + "/" + digest[2:])

	m.boot()
	m.expectContains("reading the damaged file", m.fails("cat "+victim+" >/dev/null"), "Input/output error")
	m.sh("ls -l / >/dev/null && cat /usr/bin/ls >/dev/null")
	said := m.fails("ashlar verify")
	m.expectContains("verify", said, victim)
	if n := strings.Count(said, "damaged "); n != 1 {
		t.Errorf("verify names %d damages, want 1:\n%s", n, said)
	}
}

// TestOneByteOfTheImage: a deployment whose image is damaged does not boot, and
// the previous one does, be the damaged one on trial or long proved good.
func TestOneByteOfTheImage(t *testing.T) {
	t.Parallel()
	m := newMachine(t, sealed, "vm")
	m.boot()
	site := openSite(t, "1.0.0")
	m.follow(site)
	site.publish("2.0.0")
	m.rebootWith("ashlar update --reboot")
	m.expect("release", m.version(), "2.0.0")
	image := m.status().Running
	m.step("shutdown", m.Shutdown)
	m.flip("/ashlar/images/" + image)

	m.boot()
	m.expect("release that boots when 2.0.0 is damaged", m.version(), "1.0.0")
	m.expectContains("status", m.sh("ashlar status"), "failed")
	m.expectContains("verify", m.fails("ashlar verify"), image[:12])
}

// TestFirstBootRefusesAWrongObject: what a disk image brings is measured before
// it is believed.
func TestFirstBootRefusesAWrongObject(t *testing.T) {
	t.Parallel()
	m := newMachine(t, fx.Disk(), "vm")
	digest := objectOf(t, "1.0.0", "/usr/bin/nano")
	m.flip("/ashlar/objects/" + digest[:2] + "/" + digest[2:])
	m.step("start", m.Start)
	m.step("refusal", func(ctx context.Context) error {
		_, err := m.WaitConsole(ctx, "ashlar: cannot boot: .*"+digest+".*reboots in")
		return err
	})
	m.PowerCut()
}
