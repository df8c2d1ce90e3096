package cli

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/media/drive/drivetest"
	"github.com/ashlar-os/ashlar/internal/media/mediatest"
	"github.com/ashlar-os/ashlar/internal/registry"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// mediaSite is a directory with a signed release that has a medium, and the root to believe.
func mediaSite(t *testing.T, p *mediatest.Publisher, change func(*trust.Editor) error) (site, root string) {
	t.Helper()
	site, root = filepath.Join(t.TempDir(), "site"), filepath.Join(t.TempDir(), "root.json")
	p.Publish(site, "1.0.0", 1, change)
	if err := os.WriteFile(root, p.Keys.Root(), 0o644); err != nil {
		t.Fatal(err)
	}
	return site, root
}

// mediaVerb runs a verb of media that must end with a code and say some words.
func mediaVerb(t *testing.T, code int, words string, args ...string) string {
	t.Helper()
	out, errs, got := ashlar(t, append([]string{"media"}, args...)...)
	if got != code || !strings.Contains(out+errs, words) {
		t.Errorf("media %q: %d, want %d and %q\n%s%s", args, got, code, words, out, errs)
	}
	return out
}

// twoSticks is a made-up computer with two sticks of 64 MiB, sdb and sdd.
func twoSticks(t *testing.T) *drivetest.Computer {
	t.Helper()
	c := newLaptop(t)
	sectors := strconv.Itoa(64 << 20 / 512)
	c.File("sys/block/sdb/size", sectors)
	stick(t, c, 64<<20)
	c.Drive("sdd", "pci0000:00/0000:00:14.0/usb1/1-4/host9", "8:48", sectors, map[string]string{"device/model": "DataTraveler", "removable": "1"})
	if err := os.Truncate(filepath.Join(c.Root, "dev/sdd"), 64<<20); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestMediaLife is what a person does: a stick from a release, two things at once from
// the stick, a look at each, and a change that is found.
func TestMediaLife(t *testing.T) {
	p := mediatest.NewPublisher(t)
	site, root := mediaSite(t, p, nil)
	c := twoSticks(t)
	dir := t.TempDir()
	answers, iso := filepath.Join(dir, "install.toml"), filepath.Join(dir, "desktop.iso")
	if err := os.WriteFile(answers, []byte("schema = 1\nthen = \"reboot\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	mediaVerb(t, exitOK, "/dev/sdb holds desktop 1.0.0: ", "write", site, "--root", root, "--to", "/dev/sdb", "--yes")
	mediaVerb(t, exitOK, "are exactly what was signed", "verify", "/dev/sdb", "--root", root)
	mediaVerb(t, exitOK, "holds    an Ashlar medium", "drives")

	out := mediaVerb(t, exitOK, "", "write", "/dev/sdb", "--root", root, "--to", "sdd", "-o", iso, "--yes", "--answers", answers, "--json")
	var written mediaWriteAnswer
	if err := json.Unmarshal([]byte(out), &written); err != nil {
		t.Fatal(err)
	}
	if len(written.Media) != 2 || written.Media[0].Path != "/dev/sdd" || written.Media[1].Path != iso || written.Size != mediatest.Size ||
		written.Answers == "" || written.Media[0].Error != "" || written.Media[0].Bytes < 20<<20 || written.Signed.Root.Path != root {
		t.Errorf("it says %s", out)
	}
	if _, err := os.Stat(iso + partial); err == nil {
		t.Error("the half-made file is still there")
	}
	var verified mediaVerifyAnswer
	for _, name := range []string{"/dev/sdd", iso} {
		out := mediaVerb(t, exitOK, "", "verify", name, "--root", root, "--json")
		if err := json.Unmarshal([]byte(out), &verified); err != nil || !verified.Intact || verified.Version != "1.0.0" ||
			verified.Verified.Answers == nil || verified.Verified.Answers.Digest != written.Answers {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	mediaVerb(t, exitOK, "not signed: put there by who wrote the medium, 27 bytes, "+string(written.Answers), "verify", iso, "--root", root)

	flip(t, filepath.Join(c.Root, "dev/sdd"), mediatest.ESP+4<<20)
	mediaVerb(t, exitDamaged, "/dev/sdd is not what was signed", "verify", "/dev/sdd", "--root", root)
	out = mediaVerb(t, exitDamaged, "CHANGED", "verify", "/dev/sdd", "--root", root)
	if !strings.Contains(out, "the boot partition (ashlar-media-esp)") {
		t.Errorf("it does not name the boot partition:\n%s", out)
	}
	mediaVerb(t, exitError, "are not as they were signed", "write", "/dev/sdd", "--root", root, "-o", filepath.Join(dir, "bad.iso"))
	if left, _ := filepath.Glob(filepath.Join(dir, "bad.iso*")); len(left) > 0 {
		t.Errorf("what is not signed was written: %q", left)
	}
	flip(t, filepath.Join(c.Root, "dev/sdd"), mediatest.Papers+600)
	mediaVerb(t, exitDamaged, "the medium is damaged", "verify", "/dev/sdd", "--root", root)
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// TestMediaWriteRefuses has a case for each thing that stops a write before it begins.
func TestMediaWriteRefuses(t *testing.T) {
	p := mediatest.NewPublisher(t)
	site, root := mediaSite(t, p, nil)
	withdrawn, _ := mediaSite(t, p, func(e *trust.Editor) error { return e.Withdraw("1.0.0", "it eats disks") })
	unsigned, without := filepath.Join(t.TempDir(), "unsigned"), filepath.Join(t.TempDir(), "x")
	writeTestRelease(t, unsigned, "1.0.0")
	strangers := filepath.Join(t.TempDir(), "others.json")
	bad := filepath.Join(t.TempDir(), "bad.toml")
	for path, content := range map[string][]byte{strangers: mediatest.NewStranger(t).Keys.Root(), bad: []byte("schema = 1\nhats = 3\n"), without: []byte("no medium")} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := twoSticks(t)
	before, err := os.ReadFile(filepath.Join(c.Root, "dev/sdb"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		code  int
		words string
		args  []string
	}{
		{exitUsage, "Nothing is chosen by itself", []string{site, "--root", root, "--yes"}},
		{exitUsage, "whose signatures?", []string{site, "--to", "sdb", "--yes"}},
		{exitUntrusted, "cannot trust", []string{site, "--root", strangers, "--to", "sdb", "--yes"}},
		{exitUntrusted, "it is not signed", []string{unsigned, "--root", root, "--to", "sdb", "--yes"}},
		{exitError, "desktop-1.0.0 was withdrawn by its publisher", []string{withdrawn, "--root", root, "--to", "sdb", "--yes"}},
		{exitError, "holds no Ashlar medium", []string{without, "--root", root, "--to", "sdb", "--yes"}},
		{exitUnreachable, "", []string{"oci:/nonexistent/stick", "--root", root, "--to", "sdb", "--yes"}},
		{exitError, "--yes says that it is the right one", []string{site, "--root", root, "--to", "sdb"}},
		{exitError, "this computer runs from it", []string{site, "--root", root, "--to", "/dev/nvme0n1", "--yes"}},
		{exitError, "is not removable", []string{site, "--root", root, "--to", "/dev/loop0", "--yes"}},
		{exitError, "is too small", []string{site, "--root", root, "--to", "sdb", "--to", "mmcblk0", "--yes"}},
		{exitUsage, "is named twice", []string{site, "--root", root, "--to", "sdb", "--to", "/dev/sdb", "--yes"}},
		{exitError, "exists already", []string{site, "--root", root, "-o", without}},
		{exitUsage, "is a directory", []string{site, "--root", root, "-o", t.TempDir()}},
		{exitError, "bad.toml", []string{site, "--root", root, "--to", "sdb", "--yes", "--answers", bad}},
		{exitUsage, "no such file", []string{site, "--root", root, "--to", "sdb", "--yes", "--answers", bad + "x"}},
	} {
		if r.words == "is too small" {
			c.File("sys/block/mmcblk0/size", "2048")
		}
		mediaVerb(t, r.code, r.words, append([]string{"write"}, r.args...)...)
	}
	after, err := os.ReadFile(filepath.Join(c.Root, "dev/sdb"))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("a stick was written to all the same (%v)", err)
	}
}

// TestMediaFromRegistry: a download that is cut goes on where it was, and is used again
// for the next stick.
func TestMediaFromRegistry(t *testing.T) {
	p := mediatest.NewPublisher(t)
	site, root := mediaSite(t, p, nil)
	server, err := registry.NewServer(site, registry.ServerOptions{Repository: "acme/desktop"})
	if err != nil {
		t.Fatal(err)
	}
	blocks := mediatest.Release(t, site, "1.0.0").MediumBlocks
	var sent, most atomic.Int64 // bytes of the blocks; where the network breaks
	most.Store(blocks.Size / 2)
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, blocks.Digest.String()) {
			server.ServeHTTP(w, r)
			return
		}
		if sent.Load() >= most.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		server.ServeHTTP(&countingWriter{w, &sent, &most}, r)
	}))
	defer h.Close()
	ref := strings.TrimPrefix(h.URL, "http://") + "/acme/desktop:stable"
	cache := t.TempDir()
	twoSticks(t)

	args := []string{"write", ref, "--root", root, "--to", "sdb", "--yes", "--cache", cache}
	out, errs, code := ashlar(t, append([]string{"media"}, args...)...)
	if code == exitOK {
		t.Fatalf("the download broke off, and the verb ends with 0\n%s%s", out, errs)
	}
	first := sent.Load()
	most.Store(1 << 40)
	mediaVerb(t, exitOK, "/dev/sdb holds desktop 1.0.0", args...)
	if again := sent.Load() - first; first == 0 || again > blocks.Size-first+8<<20 || again == 0 {
		t.Errorf("of %d bytes %d came before the cut and %d after it", blocks.Size, first, again)
	}
	all := sent.Load()
	mediaVerb(t, exitOK, "/dev/sdd holds desktop 1.0.0", "write", ref, "--root", root, "--to", "sdd", "--yes", "--cache", cache)
	if sent.Load() != all {
		t.Errorf("the second stick took %d bytes from the network", sent.Load()-all)
	}
	mediaVerb(t, exitOK, "are exactly what was signed", "verify", "/dev/sdd", "--root", root)
}

// countingWriter breaks the connection when too much was sent.
type countingWriter struct {
	http.ResponseWriter
	sent, most *atomic.Int64
}

func (w *countingWriter) Write(b []byte) (int, error) {
	if w.sent.Load() >= w.most.Load() {
		panic(http.ErrAbortHandler)
	}
	n, err := w.ResponseWriter.Write(b)
	w.sent.Add(int64(n))
	return n, err
}

// A write that was cut goes on, and says how much was there.
func TestMediaWriteGoesOn(t *testing.T) {
	p := mediatest.NewPublisher(t)
	site, root := mediaSite(t, p, nil)
	iso := filepath.Join(t.TempDir(), "desktop.iso")
	mediaVerb(t, exitOK, "", "write", site, "--root", root, "-o", iso)
	b, err := os.ReadFile(iso)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != mediatest.Size || !bytes.Equal(b[:mediatest.Papers], mediatest.Image(t, 1)[:mediatest.Papers]) {
		t.Error("the file is not the image that was published")
	}
	if bytes.Equal(b[mediatest.Papers:mediatest.Papers+medium.PapersSize], make([]byte, medium.PapersSize)) {
		t.Error("it has no papers")
	}
	// As a power cut leaves it: the first block is not there.
	copy(b[:4096], make([]byte, 4096))
	if err := os.WriteFile(iso+".cut"+partial, b, 0o644); err != nil {
		t.Fatal(err)
	}
	mediaVerb(t, exitOK, "holds desktop 1.0.0", "write", site, "--root", root, "-o", iso+".cut")
	mediaVerb(t, exitOK, "are exactly what was signed", "verify", iso+".cut", "--root", root)
}
