package update

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/machine/esp/esptest"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// TestForeignFiles: what is not Ashlar's stays, and is never fatal.
func TestForeignFiles(t *testing.T) {
	w, _ := newWorld(t)
	foreign := map[string]string{
		"efi/EFI/Linux/zz-other.efi":                     string(esptest.UKI("ID=zz\nVERSION_ID=99\nNAME=zz\n", "root=/dev/sda1")),
		"efi/EFI/Linux/garbage+3.efi":                    "garbage",
		"efi/EFI/Linux/notes.txt":                        "notes",
		"efi/loader/loader.conf":                         "timeout 0\n",
		"sysroot/ashlar/notes":                           "notes",
		"sysroot/ashlar/objects/zz/notes":                "notes",
		"sysroot/ashlar/images/notes":                    "notes",
		"sysroot/ashlar/deployments/notes/x":             "notes",
		"sysroot/ashlar/var/lib/x":                       "data",
		"sysroot/ashlar/deployments/" + sixtyFour + "/x": "no deployment.json",
	}
	for name, text := range foreign {
		path := filepath.Join(w.c.Root, name)
		w.must(os.MkdirAll(filepath.Dir(path), 0o755))
		w.must(os.WriteFile(path, []byte(text), 0o644))
	}
	for _, version := range []string{"2.0.0", "3.0.0"} {
		w.publish(version)
		w.update()
		w.boot(nil)
	}
	w.rollback("")
	w.boot(nil)
	for name, text := range foreign {
		if b, err := os.ReadFile(filepath.Join(w.c.Root, name)); err != nil || string(b) != text {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s := w.look(); len(s.Broken) != 1 {
		t.Errorf("broken: %+v", s.Broken)
	}
}

const sixtyFour = "00000000000000000000000000000000000000000000000000000000000000ff"

// TestForeignFirst: a boot file of another system that the loader prefers would
// make staging pointless; it is named before anything is fetched.
func TestForeignFirst(t *testing.T) {
	w, v1 := newWorld(t)
	w.publish("2.0.0")
	path := filepath.Join(w.c.Root, "efi/EFI/Linux/arch.efi")
	w.must(os.WriteFile(path, esptest.UKI("ID=arch\nVERSION_ID=1\nNAME=arch\n", ""), 0o644))
	w.site.Server.ResetStats()
	err := w.tryStage(w.machine())
	if err == nil || !strings.Contains(err.Error(), `"arch.efi"`) || !strings.HasPrefix(err.Error(), "cannot stage server-2.0.0: ") {
		t.Errorf("staging: %v", err)
	}
	if n := w.site.Server.Stats().Requests; n != 3+2 {
		t.Errorf("%d requests", n)
	}
	w.must(os.Remove(path))
	w.boots(v1)
}

// TestBrokenDescription: deployment.json that cannot be read is no end of anything.
func TestBrokenDescription(t *testing.T) {
	w, v1 := newWorld(t)
	v2 := w.publish("2.0.0")
	w.update()
	w.boot(nil)
	for _, r := range []*updatetest.Release{v1, v2} { // the previous one, then the running one too
		w.must(os.WriteFile(filepath.Join(w.c.Store().DeploymentPath(r.Image()), "deployment.json"), []byte("{"), 0o644))
		s := w.look()
		if len(s.Broken) == 0 {
			t.Fatal("it is not noticed")
		}
		w.gc()
		for _, r := range []*updatetest.Release{v1, v2} {
			if err := w.c.Store().CheckImage(r.Image()); err != nil {
				t.Errorf("clearing up took %s: %v", r.ID, err)
			}
		}
		w.must(w.machine().RecordGoodBoot())
		w.must(w.machine().Prepare())
		if len(w.c.BootFiles()) != 2 {
			t.Errorf("boot files %q", w.c.BootFiles())
		}
	}
}

// TestBootFileChecks: a boot file of another image never gets near the loader,
// a damaged one is replaced, a stranger under its name is named.
func TestBootFileChecks(t *testing.T) {
	w, v1 := newWorld(t)
	w.site.Publish(updatetest.Spec{Name: "server", Version: "2.0.0", UKI: esptest.Release("server", "2.0.0", v1.Image())})
	if err := w.tryStage(w.machine()); err == nil || !strings.Contains(err.Error(), "and not its own") {
		t.Errorf("a boot file of another image: %v", err)
	}
	w.boots(v1)
	if left := w.c.Leftovers(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}

	v3 := w.publish("3.0.0")
	w.update()
	e := w.look().With(Next).Entry
	path := w.c.ESP().Path(*e)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	w.must(err)
	_, err = f.WriteAt([]byte("damage"), int64(len(v3.UKI)-10))
	w.must(errors.Join(err, f.Close()))
	w.stage()
	if b, err := os.ReadFile(path); err != nil || string(b) != string(v3.UKI) {
		t.Errorf("the damaged boot file was not replaced: %v", err)
	}
	w.boots(v3)

	v4 := w.publish("4.0.0")
	name := "ashlar_4.0.0_" + v4.Image().String()[:12] + ".efi"
	w.must(os.WriteFile(filepath.Join(filepath.Dir(path), name), esptest.Release("server", "0.0.1", v1.Image()), 0o644))
	if err := w.tryStage(w.machine()); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("a stranger under its name: %v", err)
	}
	w.boots(v3)
}

// TestGoodBootRecordedLater: a boot that was found good while another ashlar was
// at work is recorded by the next one.
func TestGoodBootRecordedLater(t *testing.T) {
	w, _ := newWorld(t)
	w.publish("2.0.0")
	w.update()
	w.c.PowerOn(nil) // and nobody records it
	w.publish("3.0.0")
	w.update()
	w.boot(nil)
	w.roles(roleMap{"server-2.0.0": {Previous}, "server-3.0.0": {Running, Next}})
}

func TestIDs(t *testing.T) {
	w, v1 := newWorld(t)
	s := w.look()
	for _, word := range []string{"1.0.0", "server-1.0.0", v1.Image().String(), v1.Image().String()[:4]} {
		if d, err := s.Find(word); err != nil || d.ID() != "server-1.0.0" {
			t.Errorf("%q: %v", word, err)
		}
	}
	for _, word := range []string{"", "server", "1.0", v1.Image().String()[:3], strings.Repeat("f", 70)} {
		if d, err := s.Find(word); err == nil {
			t.Errorf("%q is %s", word, d.ID())
		}
	}
	// The same version twice: people are told which.
	twin := s.Deployments[0].Deployment
	twin.Image[0]++
	w.must(w.c.Store().WriteDeployment(&twin))
	s = w.look()
	if _, err := s.Find("1.0.0"); err == nil || !strings.Contains(err.Error(), "2 deployments") {
		t.Errorf("an ambiguous word: %v", err)
	}
	want := "server-1.0.0 (" + v1.Image().Short() + ")"
	if d, err := s.Find(want); err != nil || d.ID() != want || d.Image != v1.Image() {
		t.Errorf("%q: %v", want, err)
	}
}
