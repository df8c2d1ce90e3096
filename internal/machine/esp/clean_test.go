package esp

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ashlar-os/ashlar/internal/machine/esp/esptest"
)

// TestCleanAfterACut: what a cut leaves is removed or gets its name back; what
// only looks like it stays.
func TestCleanAfterACut(t *testing.T) {
	dir := t.TempDir()
	first, other := image(1), image(2)
	uki := string(esptest.Release("server", "1.0.0", first))
	name := func(version string, d byte) string {
		n, err := EntryName(version, image(d))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	files := map[string]string{
		"EFI/Linux/" + name("2.0.0", 2) + partial:  "half",
		"EFI/Linux/ASHLAR~1.ASH":                   "half of another",
		"EFI/Linux/" + name("2.0.0", 2) + "+3.efi": "",
		"EFI/Linux/" + name("2.0.0", 2) + ".efi":   string(esptest.Release("server", "2.0.0", other)),
		"EFI/Linux/ASHLAR~2.EFI":                   uki,
		"EFI/Linux/AS12AB~1.EFI":                   "",
		"EFI/Linux/ASHLAR~3.EFI":                   string(esptest.Release("server", "2.0.0", other)), // it has its name
		"EFI/Linux/ASHLAR~4.EFI":                   string(esptest.UKI("ID=x\nNAME=x\n", "root=/dev/sda1")),
		"EFI/Linux/ASHLAR~5.TXT":                   "notes",
		"EFI/Linux/zz.efi":                         "",
		"FSCK0000.REC":                             "kernelkernel",
		"FSCK.REC":                                 "notes",
		"loader/loader.conf":                       "timeout 0\n",
	}
	for file, text := range files {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := &ESP{Dir: dir}
	for range 2 { // a second time changes nothing
		if err := p.Clean(); err != nil {
			t.Fatal(err)
		}
	}
	list, err := filepath.Glob(filepath.Join(dir, "EFI/Linux/*"))
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Glob(filepath.Join(dir, "*.REC"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, path := range append(list, root...) {
		got = append(got, filepath.Base(path))
	}
	want := []string{
		"ASHLAR~3.EFI", "ASHLAR~4.EFI", "ASHLAR~5.TXT", name("1.0.0", 1) + "+3.efi", name("2.0.0", 2) + ".efi", "zz.efi", "FSCK.REC",
	}
	if !slices.Equal(got, want) {
		t.Errorf("it leaves %q, want %q", got, want)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "EFI/Linux", name("1.0.0", 1)+"+3.efi")); err != nil || string(b) != uki {
		t.Errorf("the boot file with its name back: %v", err)
	}
}

// TestCleanLoader: what an enrolment that was cut left goes; the loader's own files
// and what others have there stay.
func TestCleanLoader(t *testing.T) {
	p := &ESP{Dir: t.TempDir()}
	left := []string{"loader/loader.conf.ashlar-partial", "loader/keys/auto/PK.auth.ashlar-partial"}
	stay := []string{"loader/loader.conf", "loader/keys/auto/PK.auth", "loader/mine.ashlar-partial", "EFI/Linux/zz.efi"}
	for _, name := range slices.Concat(left, stay) {
		path := filepath.Join(p.Dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("x"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Clean(); err != nil {
		t.Fatal(err)
	}
	for _, name := range left {
		if _, err := os.Lstat(filepath.Join(p.Dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", name, err)
		}
	}
	for _, name := range stay {
		if _, err := os.Lstat(filepath.Join(p.Dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// TestRestore: a boot file comes back under the name that it had or should have,
// and never beside another form of it.
func TestRestore(t *testing.T) {
	p := &ESP{Dir: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(p.Dir, linuxDir), 0o755); err != nil {
		t.Fatal(err)
	}
	name, err := EntryName("1.0.0", image(1))
	if err != nil {
		t.Fatal(err)
	}
	e := Entry{Name: name}.WithCounter(2, 1)
	uki := esptest.Release("server", "1.0.0", image(1))
	for _, before := range []string{"", "damaged"} {
		if before != "" {
			if err := os.WriteFile(p.Path(e), []byte(before), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Restore(e, bytes.NewReader(uki), int64(len(uki))); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(p.Path(e)); err != nil || string(b) != string(uki) {
			t.Errorf("after %q: %v", before, err)
		}
	}
	if err := p.Restore(e.WithCounter(NoCounter, 0), bytes.NewReader(uki), int64(len(uki))); err == nil {
		t.Error("it is restored beside another form of its name")
	}
	if err := p.Restore(e, bytes.NewReader(uki), int64(len(uki))+1); err == nil {
		t.Error("half of it is restored")
	}
	if b, err := os.ReadFile(p.Path(e)); err != nil || string(b) != string(uki) {
		t.Errorf("after a failure: %v", err)
	}
	if err := p.Restore(Entry{Name: "x", File: "x.efi"}, bytes.NewReader(uki), 1); err == nil {
		t.Error("a file of somebody else is restored")
	}
}
