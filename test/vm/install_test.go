//go:build vm

package vm

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/machine/install"
	"github.com/ashlar-os/ashlar/internal/vmtest"
)

// TestUnattendedInstall: a medium with answers installs to the disk that they name,
// with no network and nobody there; the other disk is as it was; and the disk starts
// the release that is signed, whole.
func TestUnattendedInstall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	answers := filepath.Join(dir, "answers.toml")
	text := `schema = 1
then = "wait"
[disk]
id = "disk"
[system]
hostname = "story"
[user]
name = "ada"
password = "secret words"
`
	if err := os.WriteFile(answers, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	medium := writeMedium(t, dir, answers)
	blank, other := filepath.Join(dir, "blank"), filepath.Join(dir, "other")
	writeDisk(t, blank, 8<<30, false)
	writeDisk(t, other, 64<<20, true)

	m := newMachineWith(t, vmtest.Config{
		Name: "from the medium", Base: blank, Bus: vmtest.NVMe, Closed: true,
		Others: []vmtest.Disk{{Image: medium, Bus: vmtest.SATA, Boot: true}, {Image: other}},
	})
	m.step("boot", m.Boot)
	m.step("installing", func(ctx context.Context) error {
		_, err := m.WaitConsole(ctx, `They are equal\.`)
		return err
	})
	want := fmt.Sprintf("%x", sumFile(t, other))
	m.expect("the other disk", strings.Fields(m.sh("sync; sha256sum /dev/vda"))[0], want)
	m.expectContains("the kernel's log", m.sh("dmesg"), "ashlar-install: Installed server-1.0.0")
	running := m.sh(`sed -n 's/.*ashlar.image=\([0-9a-f]*\).*/\1/p' /proc/cmdline`)
	installed := filepath.Join(dir, "installed")
	m.step("shutdown", m.Shutdown)
	m.step("taking the disk", func(ctx context.Context) error { return m.Snapshot(ctx, installed) })

	d := newMachineWith(t, vmtest.Config{Name: "from the disk", Base: installed, Bus: vmtest.SATA, Closed: true})
	d.boot()
	d.expectContains("command line", d.sh("cat /proc/cmdline"), "ashlar.image="+running)
	d.expectContains("verify", d.sh("ashlar verify"), "good:")
	d.expectContains("status", d.sh("ashlar status"), "server-1.0.0")
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

// writeMedium makes a medium of release 1.0.0, signed, with a file of answers or "".
func writeMedium(t *testing.T, dir, answers string) string {
	t.Helper()
	ctx, cancel := stepContext()
	defer cancel()
	out, signed, image := filepath.Join(dir, "out"), filepath.Join(dir, "signed"), filepath.Join(dir, "medium.iso")
	if _, err := fx.BuildMedium(ctx, "closed", out, filepath.Join(dir, "unsigned.iso")); err != nil {
		t.Fatal(err)
	}
	if _, err := fx.Ashlar(ctx, "publish", out+":1.0.0", "oci:"+signed, "--channel", "stable", "--keys", fx.KeysDir()); err != nil {
		t.Fatal(err)
	}
	args := []string{"media", "write", signed, "--root", filepath.Join(fx.KeysDir(), "root.json"), "-o", image}
	if answers != "" {
		args = append(args, "--answers", answers)
	}
	if _, err := fx.Ashlar(ctx, args...); err != nil {
		t.Fatal(err)
	}
	return image
}

// writeDisk makes a disk, empty or with noise at its beginning.
func writeDisk(t *testing.T, path string, size int64, noise bool) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if noise {
		if _, err := io.CopyN(f, rand.Reader, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

func sumFile(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return h.Sum(nil)
}
