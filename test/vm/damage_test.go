//go:build vm

package vm

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
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

// objectPath is where a file's content is on the root partition.
func objectPath(t *testing.T, version, path string) string {
	digest := objectOf(t, version, path)
	return "/ashlar/objects/" + digest[:2] + "/" + digest[2:]
}

// image is the digest of a release's image.
func (m *machine) image(version string) string {
	m.t.Helper()
	ctx, cancel := stepContext()
	defer cancel()
	release, err := fx.Release(ctx, version)
	if err != nil {
		m.t.Fatal(err)
	}
	return release.Document.Root().Digest.String()
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

// TestDamagedObjects: of a file whose object has one byte changed, and of one
// whose object was swapped for another valid one, nothing can be read;
// everything else goes on, and verify names both files. A deployment.json that
// points elsewhere ends the boot.
func TestDamagedObjects(t *testing.T) {
	t.Parallel()
	m := newMachine(t, sealed, "vm")
	// Files that nothing reads by itself.
	const changed, swapped, other = "/usr/bin/nano", "/usr/bin/pinky", "/usr/bin/factor"
	m.flip(objectPath(t, "1.0.0", changed))
	m.step("swapping an object", func(ctx context.Context) error {
		return m.Edit(ctx, func(raw string) error {
			victim := objectPath(t, "1.0.0", swapped)
			return editRoot(ctx, raw, "unlink "+victim, "ln "+objectPath(t, "1.0.0", other)+" "+victim)
		})
	})

	m.boot()
	for _, victim := range []string{changed, swapped} {
		m.expectContains("reading "+victim, m.fails("cat "+victim+" >/dev/null"), "Input/output error")
	}
	m.sh("ls -l / >/dev/null && cat /usr/bin/ls " + other + " >/dev/null")
	said := m.fails("ashlar verify")
	for _, victim := range []string{changed, swapped} {
		m.expectContains("verify", said, victim)
	}
	if n := strings.Count(said, "damaged "); n != 2 {
		t.Errorf("verify names %d damages, want 2:\n%s", n, said)
	}

	m.step("shutdown", m.Shutdown)
	path := "/ashlar/deployments/" + m.image("1.0.0") + "/deployment.json"
	m.step("pointing the deployment elsewhere", func(ctx context.Context) error {
		return m.Edit(ctx, func(raw string) error {
			elsewhere := filepath.Join(t.TempDir(), "deployment.json")
			if err := editRoot(ctx, raw, "dump "+path+" "+elsewhere); err != nil {
				return err
			}
			text, err := os.ReadFile(elsewhere)
			if err != nil {
				return err
			}
			text = bytes.Replace(text, []byte(m.image("1.0.0")), []byte(strings.Repeat("e", 64)), 1)
			if err := os.WriteFile(elsewhere, text, 0o644); err != nil {
				return err
			}
			return editRoot(ctx, raw, "rm "+path, "write "+elsewhere+" "+path)
		})
	})
	m.step("start", m.Start)
	m.step("refusal", func(ctx context.Context) error {
		_, err := m.WaitConsole(ctx, `ashlar: cannot boot: reading "/sysroot`+path+`": field "image": e{64} is not the directory's name\. The machine reboots in`)
		return err
	})
	m.PowerCut()
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
	m.flip(objectPath(t, "1.0.0", "/usr/bin/nano"))
	m.step("start", m.Start)
	m.step("refusal", func(ctx context.Context) error {
		_, err := m.WaitConsole(ctx, "ashlar: cannot boot: .*"+digest+".*reboots in")
		return err
	})
	m.PowerCut()
}
