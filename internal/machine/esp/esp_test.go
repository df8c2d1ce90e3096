package esp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/esp/esptest"
)

// newESP is an empty directory: what FAT adds to that is tested in a virtual machine.
func newESP(t testing.TB) *ESP {
	t.Helper()
	p, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// image is a digest whose first bytes are easy to tell apart.
func image(n byte) verity.Digest { return verity.Digest{n, n, n, n, n, n, n} }

func place(t testing.TB, p *ESP, file string, content []byte) {
	t.Helper()
	path := p.file(file)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// stage commits version n and gives it the counter, as "", "+3", "+0-3" ….
func stage(t testing.TB, p *ESP, n byte, counter string) Entry {
	t.Helper()
	version := fmt.Sprint(n)
	b := esptest.Release("server", version, image(n))
	e, err := p.Commit(version, image(n), bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	_, left, done := splitCounter("x" + counter + ".efi")
	if e, err = p.SetCounter(e, left, done); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestNextAsTried holds what was tried with Debian 13's loader under OVMF:
// versions with their counters, and the version that it booted.
func TestNextAsTried(t *testing.T) {
	for _, c := range []struct {
		entries string
		next    string
	}{
		{"1 2 3", "3"},
		{"1 2 3+3", "3"},
		{"1 2 3+2-1", "3"},
		{"1 2 3+0-3", "2"},
		{"1 2+0 3+0", "1"},
		{"1+0-3 2+0-3", "2"},
		{"2 10+3", "10"},
		{"1", "1"},
	} {
		p := newESP(t)
		for _, field := range strings.Fields(c.entries) {
			version, counter, found := strings.Cut(field, "+")
			if found {
				counter = "+" + counter
			}
			var n byte
			if _, err := fmt.Sscan(version, &n); err != nil {
				t.Fatal(err)
			}
			stage(t, p, n, counter)
		}
		place(t, p, "9+3.efi", []byte("random bytes, no boot file"))
		e, ok, err := p.Next()
		if err != nil || !ok || e.Version != c.next {
			t.Errorf("of %q the loader boots %q, %v, %v; want %q", c.entries, e.Version, ok, err, c.next)
		}
	}
}

func TestEntries(t *testing.T) {
	p := newESP(t)
	if list, err := p.Entries(); err != nil || len(list) != 0 {
		t.Errorf("an empty ESP has %v, %v", list, err)
	}
	stage(t, p, 1, "")
	stage(t, p, 2, "+1-2")
	place(t, p, "arch-linux.efi", esptest.UKI("ID=arch\nNAME=Arch\nVERSION_ID=7\n", "root=/dev/sda"))
	place(t, p, "other.EFI", esptest.UKI("ID=zzz\nNAME='Z Z'\n", ""))
	place(t, p, "auto-x.efi", esptest.UKI("ID=a\n", ""))
	place(t, p, "nameless.efi", esptest.UKI("VERSION_ID=7\n", ""))
	place(t, p, "plain.efi", esptest.UKI("", "root=/dev/sda"))
	place(t, p, "twice.efi", esptest.UKI("ID=a\n", "ashlar.image="+image(1).String()+" ashlar.image="+image(2).String()))
	place(t, p, "broken.efi", []byte("MZ"))
	place(t, p, "readme.txt", []byte("not listed"))
	place(t, p, "ashlar_9_999999999999.efi", esptest.Release("server", "9", image(3))) // its name lies
	if err := os.Mkdir(p.file("dir.efi"), 0o755); err != nil {
		t.Fatal(err)
	}
	list, err := p.Entries()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list {
		s := e.File
		if e.Foreign {
			s += " foreign"
		}
		if e.Ignored != "" {
			s += " ignored"
		}
		got = append(got, s)
	}
	slices.Sort(got[5:])
	want := []string{
		"arch-linux.efi foreign",
		"ashlar_9_999999999999.efi foreign",
		"ashlar_2_020202020202+1-2.efi",
		"ashlar_1_010101010101.efi",
		"other.EFI foreign",
		"auto-x.efi foreign ignored",
		"broken.efi foreign ignored",
		"dir.efi foreign ignored",
		"nameless.efi foreign ignored",
		"plain.efi foreign ignored",
		"twice.efi foreign ignored",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if e, ok := Find(list, image(2)); !ok || e.Version != "2" || e.Left != 1 || e.Done != 2 {
		t.Errorf("found %+v, %v", e, ok)
	}
	if _, ok := Find(list, image(3)); ok {
		t.Error("found an image under a name that lies")
	}
}

func TestCommit(t *testing.T) {
	p := newESP(t)
	b := esptest.Release("server", "1.0", image(1))
	commit := func(r io.Reader, size int64) (Entry, error) { return p.Commit("1.0", image(1), r, size) }
	for name, r := range map[string]io.Reader{
		"shorter": bytes.NewReader(b[1:]),
		"longer":  io.MultiReader(bytes.NewReader(b), strings.NewReader("x")),
	} {
		if _, err := commit(r, int64(len(b))); err == nil {
			t.Errorf("%s content was accepted", name)
		}
		assertFiles(t, p)
	}
	var full *SpaceError
	if _, err := commit(bytes.NewReader(b), 1<<60); !errors.As(err, &full) {
		t.Errorf("an exabyte: %v", err)
	}
	assertFiles(t, p)
	place(t, p, "ashlar_1.0_010101010101.ashlar-partial", []byte("from a run that was cut"))
	e, err := commit(bytes.NewReader(b), int64(len(b)))
	if err != nil || e.File != "ashlar_1.0_010101010101+3.efi" || e.Image != image(1) || e.SortKey != "server" {
		t.Fatalf("%+v, %v", e, err)
	}
	assertFiles(t, p, e.File)
	for _, counter := range []int{Tries, NoCounter, 0} {
		if e, err = p.SetCounter(e, counter, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := commit(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrExists) {
			t.Errorf("beside %q: %v", e.File, err)
		}
		assertFiles(t, p, e.File)
	}
}

func TestCommitReplacesWhatCannotBoot(t *testing.T) {
	p := newESP(t)
	e := stage(t, p, 1, "")
	if err := os.Truncate(p.Path(e), 100); err != nil {
		t.Fatal(err)
	}
	b := esptest.Release("server", "1", image(1))
	e, err := p.Commit("1", image(1), bytes.NewReader(b), int64(len(b)))
	if err != nil || e.Ignored != "" {
		t.Fatalf("%+v, %v", e, err)
	}
	assertFiles(t, p, e.File)
}

func assertFiles(t *testing.T, p *ESP, want ...string) {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(p.Dir, linuxDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var got []string
	for _, f := range list {
		got = append(got, f.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("EFI/Linux holds %q, want %q", got, want)
	}
}

func TestRenameAndRemoveTouchOnlyOurs(t *testing.T) {
	p := newESP(t)
	e := stage(t, p, 1, "")
	place(t, p, "linux.efi", []byte("x"))
	for _, c := range [][2]string{
		{"linux.efi", "linux+0.efi"},
		{e.File, "ashlar_2_010101010101.efi"},
		{e.File, "../" + e.File},
	} {
		if err := p.Rename(c[0], c[1]); err == nil {
			t.Errorf("renamed %q to %q", c[0], c[1])
		}
	}
	if err := p.Remove(Entry{File: "linux.efi"}); err == nil {
		t.Error("removed a file of somebody else")
	}
	// Two forms of one name, as another tool might leave them.
	place(t, p, e.WithCounter(0, 0).File, []byte("x"))
	if _, err := p.SetCounter(e, 0, 0); !errors.Is(err, ErrExists) {
		t.Errorf("renamed over another form: %v", err)
	}
	for range 2 {
		if err := p.Remove(e); err != nil {
			t.Fatal(err)
		}
	}
	assertFiles(t, p, e.WithCounter(0, 0).File, "linux.efi")
}

func TestClean(t *testing.T) {
	p := newESP(t)
	if err := p.Clean(); err != nil {
		t.Fatal(err)
	}
	e := stage(t, p, 1, "+3")
	place(t, p, "ashlar_2_020202020202.ashlar-partial", []byte("half"))
	place(t, p, "notes.ashlar-partial", []byte("not ours"))
	if err := p.Clean(); err != nil {
		t.Fatal(err)
	}
	assertFiles(t, p, e.File, "notes.ashlar-partial")
}

func TestReadUKI(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.efi")
	if err := os.WriteFile(path, esptest.Release("server", "1.0", image(1)), 0o644); err != nil {
		t.Fatal(err)
	}
	u, err := ReadUKI(path)
	if err != nil {
		t.Fatal(err)
	}
	if u.Image != image(1) || u.OSRelease["PRETTY_NAME"] != "server 1.0" || !strings.HasSuffix(u.Cmdline, " quiet") {
		t.Errorf("read %+v", u)
	}
	if err := os.WriteFile(path, esptest.UKI("ID=x\n#"+strings.Repeat("x", maxSection), ""), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadUKI(path); err == nil || !strings.Contains(err.Error(), ".osrel") {
		t.Errorf("a section without limit: %v", err)
	}
}

func FuzzReadUKI(f *testing.F) {
	f.Add(esptest.Release("server", "1.0", image(1)))
	f.Add(esptest.UKI("ID=x", ""))
	f.Add([]byte("MZ"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if u, err := readUKI(bytes.NewReader(b)); err == nil && len(u.Cmdline) > maxSection {
			t.Fatalf("read a command line of %d bytes", len(u.Cmdline))
		}
	})
}
