package cli

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/crashtest"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// sample keeps a state in which EFI/Linux looks as in none before, and some others.
func (m *matrix) sample(d disk) {
	var key strings.Builder
	for _, name := range d.List("efi/EFI/Linux") {
		f := d.boot[name]
		fmt.Fprintf(&key, "%s %d %t;", name, len(f.Data), f.Err != nil)
	}
	const every = 400
	if m.states%every == 0 {
		fmt.Fprint(&key, m.states)
	}
	if _, ok := m.samples[key.String()]; !ok {
		m.samples[key.String()] = d
	}
}

// runAgain runs the verb on the states that were kept, once fsck has been over the
// ESP as it is before it is mounted. Where somebody only clears up, what may boot
// next goes on being so, and nothing is left over either.
func (m *matrix) runAgain() {
	for key, d := range m.samples {
		m.again++
		c := updatetest.At(m.t, m.t.TempDir())
		d.RemoveAll("efi")
		d.Store(m.t, c.Root)
		m.mount(d.image, c.Root)
		cleared := c.Copy()
		m.tidy("only cleared up, "+key, cleared)
		if next := cleared.WouldBoot(); !m.allowed[next] || cleared.Whole(next) != nil || cleared.Whole(m.running) != nil {
			m.t.Errorf("%s: after a clean-up %s boots next: %v, %v", key, next.Short(), cleared.Whole(next), cleared.Whole(m.running))
		}
		out, errs, code := m.f.runOn(c, m.s.args...)
		if code != exitOK {
			m.t.Errorf("%s: running it again ends with %d\n%s%s", key, code, out, errs)
		}
		if next := c.WouldBoot(); next != m.s.after.Image() {
			m.t.Errorf("%s: after running it again %s boots next: %q", key, next.Short(), c.BootFiles())
		}
		if err := c.Whole(m.s.after.Image()); err != nil {
			m.t.Errorf("%s: after running it again: %v", key, err)
		}
		m.tidy(key, c)
		if m.t.Failed() {
			return
		}
	}
}

// bootName is the name of a boot file of Ashlar's.
var bootName = regexp.MustCompile(`^ashlar_[0-9.]+_[0-9a-f]{12}(\+[0-9]+(-[0-9]+)?)?\.efi$`)

// tidy looks for what is left over after the next run and a clean-up: in the store
// there are images with a deployment and a boot file, what these use, and nothing
// else; on the ESP are their boot files.
func (m *matrix) tidy(key string, c *updatetest.Computer) {
	m.t.Helper()
	if out, errs, code := m.f.runOn(c, "gc"); code != exitOK {
		m.t.Errorf("%s: gc ends with %d\n%s%s", key, code, out, errs)
	}
	left := append(c.Leftovers(), strangers(m.t, filepath.Join(c.Root, "sysroot/ashlar"))...)
	root, err := os.ReadDir(filepath.Join(c.Root, "efi"))
	must(m.t, err)
	for _, e := range root {
		if e.Name() != "EFI" {
			left = append(left, e.Name())
		}
	}
	booted := make(map[string]bool)
	for _, name := range c.BootFiles() {
		if !bootName.MatchString(name) {
			left = append(left, name)
			continue
		}
		_, digest, _ := strings.Cut(strings.TrimPrefix(name, "ashlar_"), "_")
		booted[digest[:12]] = true
	}
	objects := make(map[verity.Digest]bool)
	for _, image := range c.Images() {
		tree, err := composefs.ReadBytes(m.read(c, "images/"+image))
		must(m.t, err)
		for _, o := range tree.Objects() {
			objects[o.Digest] = true
		}
		m.read(c, "deployments/"+image+"/deployment.json")
		if !booted[image[:12]] && !m.lostIn(key, image) {
			left = append(left, "images/"+image)
		}
	}
	if n := c.Objects(); n != len(objects) {
		left = append(left, fmt.Sprintf("%d objects of which %d are used", n, len(objects)))
	}
	if len(left) > 0 {
		m.t.Errorf("%s: left over are %q", key, left)
	}
}

// inStore are the names that a store has when nobody is at work (docs/store.md).
var inStore = regexp.MustCompile(`^(objects(/[0-9a-f]{2}(/[0-9a-f]{62})?)?|images(/[0-9a-f]{64})?|` +
	`deployments(/[0-9a-f]{64}(/(deployment\.json|release\.json|etc\.json|aside\.json|failure|(etc|work)(/.*)?))?)?|` +
	`var(/.*)?|trust(/[a-z0-9-]+(/(lock|current|generation-[0-9]+(/.*)?))?)?|tmp|lock|history(\.1)?|boots\.json|loader\.json)$`)

// strangers lists what else there is, and all generations of a publisher's metadata
// where there is more than one.
func strangers(t *testing.T, store string) (list []string) {
	t.Helper()
	must(t, filepath.WalkDir(store, func(path string, _ fs.DirEntry, err error) error {
		if relative, _ := filepath.Rel(store, path); err == nil && path != store && !inStore.MatchString(relative) {
			list = append(list, relative)
		}
		return err
	}))
	kept, err := filepath.Glob(filepath.Join(store, "trust", "*"))
	must(t, err)
	for _, dir := range kept {
		generations, err := filepath.Glob(filepath.Join(dir, "generation-*"))
		must(t, err)
		if len(generations) > 1 {
			list = append(list, generations...)
		}
	}
	return list
}

// lostIn reports whether a state had no boot file of an image: what was good keeps
// its deployment then, for `ashlar verify --repair`.
func (m *matrix) lostIn(key, image string) bool {
	for name := range strings.SplitSeq(key, ";") {
		if file, size, ok := strings.Cut(name, " "); ok && strings.Contains(file, image[:12]) && !strings.HasPrefix(size, "0 ") {
			return false
		}
	}
	return true
}

func (m *matrix) read(c *updatetest.Computer, name string) []byte {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.Root, "sysroot/ashlar", name))
	must(m.t, err)
	return b
}

// mount lets fsck.vfat repair the ESP and writes what is on it below root.
func (m *matrix) mount(image crashtest.Image, root string) {
	name := filepath.Join(m.t.TempDir(), "esp")
	image.WriteTo(m.t, name, espBytes)
	if out, err := exec.Command("fsck.vfat", "-a", name).CombinedOutput(); err != nil && exec.ExitError.ExitCode(*err.(*exec.ExitError)) != 1 {
		m.t.Fatalf("fsck.vfat: %v\n%s", err, out)
	}
	if out, err := exec.Command("fsck.vfat", "-n", name).CombinedOutput(); err != nil {
		m.t.Fatalf("fsck.vfat, a second time: %v\n%s", err, out)
	}
	image = crashtest.LoadImage(m.t, name)
	must(m.t, os.Remove(name))
	for _, dir := range []string{".", "EFI/Linux"} {
		must(m.t, os.MkdirAll(filepath.Join(root, "efi", dir), 0o755))
		files, err := image.List(dir)
		must(m.t, err)
		for _, f := range files {
			if !f.Dir {
				must(m.t, os.WriteFile(filepath.Join(root, "efi", dir, f.Name), f.Data, 0o644))
			}
		}
	}
}
