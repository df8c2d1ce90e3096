//go:build vm

package vm

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/vmtest"
)

// installMedium is release 1.0.0 for computers, with its install medium. It brings the
// publisher's Secure Boot keys to a firmware that has none.
type installMedium struct {
	out    string // layout, as it was built
	signed string // layout, as it was published
	image  string // file: the medium with nothing in its open regions
}

// medium is built once, by the first story that wants it.
var medium = sync.OnceValues(func() (*installMedium, error) {
	ctx, cancel := stepContext()
	defer cancel()
	dir := filepath.Join(fx.Dir, "installer")
	im := &installMedium{out: filepath.Join(dir, "out"), signed: filepath.Join(dir, "signed"), image: filepath.Join(dir, "medium.iso")}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if _, err := fx.BuildMedium(ctx, "installer", im.out, im.image); err != nil {
		return nil, err
	}
	_, err := fx.Ashlar(ctx, "publish", im.out+":1.0.0", "oci:"+im.signed, "--channel", "stable", "--keys", fx.KeysDir())
	return im, err
})

func theMedium(t *testing.T) *installMedium {
	t.Helper()
	im, err := medium()
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// write makes an image of the medium with answers, "" for none, that is signed.
func (im *installMedium) write(t *testing.T, answers string) string {
	t.Helper()
	dir := t.TempDir()
	image := filepath.Join(dir, "medium.iso")
	args := []string{"media", "write", im.signed, "--root", filepath.Join(fx.KeysDir(), "root.json"), "-o", image}
	if answers != "" {
		name := filepath.Join(dir, "answers.toml")
		if err := os.WriteFile(name, []byte(answers), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--answers", name)
	}
	ctx, cancel := stepContext()
	defer cancel()
	if _, err := fx.Ashlar(ctx, args...); err != nil {
		t.Fatal(err)
	}
	return image
}

// installed waits until an installation has come to its end, as the console tells it.
// cryptsetup measures each key slot, on a processor that is emulated.
func (m *machine) installed() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*limit)
	defer cancel()
	if _, err := m.WaitConsole(ctx, `They are equal\.`); err != nil {
		m.t.Fatalf("installing: %v (console: %s)", err, m.Log)
	}
}

// takeDisk turns the machine off, and returns an image of its disk.
func (m *machine) takeDisk() string {
	m.t.Helper()
	disk := filepath.Join(m.t.TempDir(), "disk.raw")
	m.step("shutdown", m.Shutdown)
	m.step("taking the disk", func(ctx context.Context) error { return m.Snapshot(ctx, disk) })
	return disk
}

// firmware is the machine's own, with what it has remembered until now.
func (m *machine) firmware() vmtest.Firmware {
	m.t.Helper()
	vars, err := os.ReadFile(filepath.Join(m.Dir, "vars.fd"))
	if err != nil {
		m.t.Fatal(err)
	}
	f := m.Firmware
	f.Vars = filepath.Join(m.t.TempDir(), "vars.fd")
	if err := os.WriteFile(f.Vars, vars, 0o644); err != nil {
		m.t.Fatal(err)
	}
	return f
}

// bootFiles lists the boot files on a disk that is off, without what the loader counts.
func bootFiles(t *testing.T, raw string) (names []string) {
	t.Helper()
	ctx, cancel := stepContext()
	defer cancel()
	paths, err := vmtest.ListESP(ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if name, ok := strings.CutPrefix(path, "/EFI/Linux/"); ok {
			name, _, _ = strings.Cut(strings.TrimSuffix(name, ".efi"), "+")
			names = append(names, name)
		}
	}
	return names
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

// dd copies an image to a larger disk, as people do.
func dd(t *testing.T, image, disk string) {
	t.Helper()
	ctx, cancel := stepContext()
	defer cancel()
	if _, err := program.Run(ctx, program.Command{Args: []string{"dd", "if=" + image, "of=" + disk, "bs=4M", "conv=notrunc,sparse", "status=none"}}); err != nil {
		t.Fatal(err)
	}
}

func sumFile(t *testing.T, path string) string {
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
	return fmt.Sprintf("%x", h.Sum(nil))
}
