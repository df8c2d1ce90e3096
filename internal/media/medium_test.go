package media

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/media/drive"
	"github.com/ashlar-os/ashlar/internal/media/drive/drivetest"
	"github.com/ashlar-os/ashlar/internal/media/mediatest"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// signedSource is the source of a release in a directory, and who signed it.
func signedSource(t *testing.T) (*Source, *mediatest.Publisher) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "site")
	p := mediatest.NewPublisher(t)
	p.Publish(dir, "1.0.0", 1, nil)
	s, err := FromRelease(t.Context(), mediatest.Release(t, dir, "1.0.0"), mediatest.Metadata(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Fetch(t.Context(), "", progress.None); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, p
}

// written is a file with a medium on it.
func writtenFile(t *testing.T, s *Source, answers string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stick.img")
	dev, err := drive.CreateFile(path, mediatest.Size+8<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if _, err := Write(t.Context(), dev, s, WriteOptions{Name: path, Answers: []byte(answers)}, progress.None); err != nil {
		t.Fatal(err)
	}
	return path
}

func openFile(t *testing.T, path string) (*Medium, error) {
	t.Helper()
	dev, err := drive.OpenToRead(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	return OpenMedium(path, dev)
}

func verifyFile(t *testing.T, path string, p *mediatest.Publisher) (*Verified, error) {
	t.Helper()
	m, err := openFile(t, path)
	if err != nil {
		return nil, err
	}
	if _, err := m.Believe(t.Context(), p.Keys.Root()); err != nil {
		return nil, err
	}
	return m.Verify(t.Context(), progress.None)
}

// TestMediumProvesItself: what Write wrote is what was signed, says the medium alone.
func TestMediumProvesItself(t *testing.T) {
	s, p := signedSource(t)
	path := writtenFile(t, s, "host = \"one\"\n")
	v, err := verifyFile(t, path, p)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Changed) != 0 || v.Bytes != s.Map.Data() || v.Answers == nil || v.Answers.Size != 13 {
		t.Errorf("it says %+v", v)
	}
	if want := mediatest.Size - s.Map.Data() - medium.PapersSize - medium.AnswersSize; v.Empty != want {
		t.Errorf("it says that %d bytes have to be zero, want %d", v.Empty, want)
	}

	// The file is the published image, but for what is open.
	image := mediatest.Image(t, 1)
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(got[mediatest.Papers : mediatest.Answers+medium.AnswersSize])
	if !bytes.Equal(got[:mediatest.Size], image) {
		t.Error("the file is another image than the one that was published")
	}

	// And it is a source itself.
	m, err := openFile(t, path)
	if err != nil {
		t.Fatal(err)
	}
	again := writtenFile(t, m.Source(), "")
	if v, err := verifyFile(t, again, p); err != nil || len(v.Changed) != 0 || v.Answers != nil {
		t.Errorf("written from the image: %+v, %v", v, err)
	}
}

// TestOneBitChanged: wherever it is, the medium does not pass, and what is wrong is named.
func TestOneBitChanged(t *testing.T) {
	s, p := signedSource(t)
	whole := writtenFile(t, s, "")
	content, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	root := bytes.Index(content[mediatest.Papers:], []byte("1.root.json")) + mediatest.Papers + 700
	for name, c := range map[string]struct {
		at   int
		part string // of a change; or
		err  string // what opening or believing says
	}{
		"boot sector":     {at: 440, part: "the partition table and the start"},
		"ISO":             {at: 32780, part: "the partition table and the start"},
		"loader":          {at: mediatest.ESP + 5000, part: "the boot partition (ashlar-media-esp)"},
		"boot file":       {at: mediatest.ESP + 4<<20, part: "the boot partition (ashlar-media-esp)"},
		"payload":         {at: mediatest.Payload + 12345678, part: "the payload (ashlar-payload)"},
		"backup table":    {at: mediatest.Size - 400, part: "the partition table"},
		"a hole":          {at: mediatest.Payload + 25<<20, part: "the payload (ashlar-payload)"},
		"free space":      {at: mediatest.ESP + 2<<20, part: "the boot partition (ashlar-media-esp)"},
		"partition table": {at: 1024 + 60, err: "it holds no Ashlar medium"},
		"document":        {at: mediatest.Papers + 512 + 30, err: "the medium is damaged"},
		"a name":          {at: mediatest.Papers + 10, err: "the medium is damaged"},
		"trust root":      {at: root, err: "1.root.json"},
	} {
		t.Run(name, func(t *testing.T) {
			b := bytes.Clone(content)
			b[c.at] ^= 1
			path := filepath.Join(t.TempDir(), "changed")
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			v, err := verifyFile(t, path, p)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("it says %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(v.Changed) != 1 || !strings.Contains(v.Changed[0].Part, c.part) ||
				int64(c.at) < v.Changed[0].Offset || int64(c.at) >= v.Changed[0].Offset+v.Changed[0].Length {
				t.Errorf("byte %d has another bit, and it says %+v", c.at, v.Changed)
			}
		})
	}
}

func TestBelieve(t *testing.T) {
	s, p := signedSource(t)
	stranger := mediatest.NewStranger(t)
	path := writtenFile(t, s, "")
	m, err := openFile(t, path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Believe(t.Context(), stranger.Keys.Root()); !errors.Is(err, trust.ErrUntrusted) {
		t.Errorf("by another publisher's root: %v", err)
	}
	b, err := m.Believe(t.Context(), p.Keys.Root())
	if err != nil || b.Release.Version != "1.0.0" {
		t.Errorf("it says %+v, %v", b, err)
	}

	// A document that nobody signed, with everything else in order.
	doc := *s.Document
	doc.Builder = "somebody"
	other := *s.Papers
	if other.Document, err = doc.Encode(); err != nil {
		t.Fatal(err)
	}
	forged := *s
	forged.Papers = &other
	m, err = openFile(t, writtenFile(t, &forged, ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Believe(t.Context(), p.Keys.Root()); !errors.Is(err, trust.ErrUntrusted) || !strings.Contains(err.Error(), "is not signed") {
		t.Errorf("an unsigned document: %v", err)
	}
}

func TestNoMedium(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	for name, content := range map[string][]byte{
		"nothing": {}, "zeros": make([]byte, 1<<20), "text": bytes.Repeat([]byte("hello\n"), 1<<16),
		"not filled": mediatest.Image(t, 1),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := openFile(t, path)
		if want := map[bool]error{true: ErrDamaged, false: ErrNoMedium}[name == "not filled"]; !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A write that was cut is no medium, and says that it was cut.
func TestCutWriteIsNoMedium(t *testing.T) {
	s, _ := signedSource(t)
	path := filepath.Join(t.TempDir(), "cut")
	dev, err := drive.CreateFile(path, mediatest.Size)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	read := s.read
	s.read = func(i int, b []byte) error { cancel(); return read(i, b) }
	s.checked = true
	if _, err := Write(ctx, dev, s, WriteOptions{Name: path}, progress.None); err == nil {
		t.Fatal("it was not cut")
	}
	dev.Close()
	if _, err := openFile(t, path); !errors.Is(err, ErrNoMedium) || !strings.Contains(err.Error(), "did not come to its end") {
		t.Errorf("it says %v", err)
	}
}

// TestTrueDrive writes, cuts, verifies and restores a drive that the kernel knows.
func TestTrueDrive(t *testing.T) {
	s, p := signedSource(t)
	path, file := drivetest.Loop(t, 100<<20)
	drivetest.Run(t, "mke2fs", "-q", path)
	d, err := drive.This.Find(path)
	if err != nil {
		t.Fatal(err)
	}
	dev, err := drive.This.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	w, err := Write(t.Context(), dev, s, WriteOptions{Name: path, Drive: true}, progress.None)
	if err != nil {
		t.Fatal(err)
	}
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	if !w.Discarded {
		t.Error("the drive was not told what it does not hold any more")
	}
	if v, err := verifyFile(t, path, p); err != nil || len(v.Changed) != 0 {
		t.Errorf("it says %+v, %v", v, err)
	}
	st, err := os.Stat(file)
	if err != nil || st.Size() != 100<<20 {
		t.Fatalf("%v, %v", st, err)
	}
	if d, _ = drive.This.Find(path); d.Content != "an Ashlar medium" {
		t.Errorf("it holds %q", d.Content)
	}
	if dev, err = drive.This.Open(d); err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if _, err := Restore(t.Context(), dev, RestoreOptions{Name: path, Sector: d.Sector}, progress.None); err != nil {
		t.Fatal(err)
	}
	if d, _ = drive.This.Find(path); d.Content != "a partition table with one partition" {
		t.Errorf("it holds %q", d.Content)
	}
}
