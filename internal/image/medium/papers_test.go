package medium

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/program"
)

func samplePapers() *Papers {
	return &Papers{
		Document: []byte("{}\n"),
		Map:      []byte("a map\n"),
		Trust:    map[string][]byte{"1.root.json": []byte("root"), "timestamp.json": []byte("now"), "7.channels-a.json": nil},
	}
}

func TestPapersComeBack(t *testing.T) {
	for name, p := range map[string]*Papers{
		"all":         samplePapers(),
		"document":    {Document: []byte("x"), Trust: map[string][]byte{}},
		"without map": {Document: []byte("x"), Trust: map[string][]byte{"2.root.json": make([]byte, 3<<20)}},
	} {
		b, err := p.Encode()
		if err != nil {
			t.Fatal(name, err)
		}
		if len(b) != PapersSize {
			t.Errorf("%s: %d bytes", name, len(b))
		}
		got, err := ReadPapers(bytes.NewReader(b))
		if err != nil {
			t.Fatal(name, err)
		}
		if got.Trust["7.channels-a.json"] != nil && len(got.Trust["7.channels-a.json"]) == 0 {
			got.Trust["7.channels-a.json"] = nil
		}
		if !reflect.DeepEqual(got, p) {
			t.Errorf("%s: read %+v, want %+v", name, got, p)
		}
	}
}

// TestPapersAreATar: whoever finds a medium can look at its papers without Ashlar.
func TestPapersAreATar(t *testing.T) {
	b, err := samplePapers().Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "papers")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := program.Run(t.Context(), program.Command{Args: []string{"tar", "-tf", path}})
	if want := "release.json\nmap.json\ntrust/1.root.json\ntrust/7.channels-a.json\ntrust/timestamp.json\n"; err != nil || string(out) != want {
		t.Errorf("tar lists %q (%v), want %q", out, err, want)
	}
}

// archive is a region with a tar of these entries.
func archive(t *testing.T, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		if h.Typeflag == 0 {
			h.Typeflag, h.Size = tar.TypeReg, 1
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write(make([]byte, h.Size)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), make([]byte, PapersSize-b.Len())...)
}

func TestReadPapersRefuses(t *testing.T) {
	doc := tar.Header{Name: "release.json"}
	good := archive(t, doc)
	if _, err := ReadPapers(bytes.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		b          []byte
	}{
		{"no document", "does not belong", archive(t, tar.Header{Name: "map.json"})},
		{"two documents", "does not belong", archive(t, doc, doc)},
		{"another name", "does not belong", archive(t, doc, tar.Header{Name: "etc/passwd"})},
		{"no metadata", "no name of signed metadata", archive(t, doc, tar.Header{Name: "trust/../x.json"})},
		{"a leading zero", "no name of signed metadata", archive(t, doc, tar.Header{Name: "trust/01.root.json"})},
		{"a name twice", "canonical", archive(t, doc, tar.Header{Name: "trust/1.root.json"}, tar.Header{Name: "trust/1.root.json"})},
		{"an owner", "canonical", archive(t, tar.Header{Name: "release.json", Uid: 1})},
		{"a mode", "canonical", archive(t, tar.Header{Name: "release.json", Mode: 0o600})},
		{"a link", "no release document", archive(t, tar.Header{Name: "release.json", Typeflag: tar.TypeSymlink, Linkname: "x"})},
		{"a long form", "canonical", archive(t, tar.Header{Name: "release.json", Format: tar.FormatPAX, PAXRecords: map[string]string{"a.b": "c"}})},
		{"something behind it", "canonical", append(bytes.Clone(good[:PapersSize-1]), 1)},
		{"cut", "EOF", good[:PapersSize-1]},
		{"no archive", "tar", bytes.Repeat([]byte{'x'}, PapersSize)},
	} {
		p, err := ReadPapers(bytes.NewReader(c.b))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: read %+v, error %v, want one with %q", c.name, p, err, c.want)
		}
	}
	if _, err := ReadPapers(bytes.NewReader(make([]byte, PapersSize))); !errors.Is(err, ErrBlank) {
		t.Errorf("an empty region: %v", err)
	}
	if _, err := (&Papers{Document: make([]byte, PapersSize)}).Encode(); err == nil || !strings.Contains(err.Error(), "room for") {
		t.Errorf("too large: %v", err)
	}
}

func TestAnswers(t *testing.T) {
	text := []byte("language = \"en\"\n")
	b, err := EncodeAnswers(text)
	if err != nil || len(b) != AnswersSize {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	if got, err := ReadAnswers(bytes.NewReader(b)); err != nil || !bytes.Equal(got, text) {
		t.Errorf("read %q (%v)", got, err)
	}
	if _, err := ReadAnswers(bytes.NewReader(make([]byte, AnswersSize))); !errors.Is(err, ErrBlank) {
		t.Errorf("an empty region: %v", err)
	}
	b[AnswersSize-1] = 'x'
	if _, err := ReadAnswers(bytes.NewReader(b)); err == nil || !strings.Contains(err.Error(), "follows the text") {
		t.Errorf("something behind the text: %v", err)
	}
	if _, err := ReadAnswers(bytes.NewReader(b[1:])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a short region: %v", err)
	}
	for want, text := range map[string][]byte{"room for": make([]byte, AnswersSize+1), "zero byte": []byte("a\x00b")} {
		if _, err := EncodeAnswers(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
	}
}

func FuzzReadPapers(f *testing.F) {
	good, err := samplePapers().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.TrimRight(good, "\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > PapersSize {
			return
		}
		b = append(b, make([]byte, PapersSize-len(b))...)
		p, err := ReadPapers(bytes.NewReader(b))
		if err != nil {
			return
		}
		if again, err := p.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("what ReadPapers takes, Encode must write: %v", err)
		}
	})
}
