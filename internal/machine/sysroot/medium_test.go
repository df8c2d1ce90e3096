package sysroot

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/program"
)

// makeMedium makes a device with a payload by mkfs.erofs and veritysetup, and returns
// the root hash. Its last partitions are the open ones.
func makeMedium(t *testing.T, device, content string) (root string) {
	t.Helper()
	dir := t.TempDir()
	payload, hash := filepath.Join(dir, "payload"), filepath.Join(dir, "hash")
	write(t, filepath.Join(dir, "tree/ashlar/objects/ab/cd"), strings.Repeat(content, 100_000))
	command(t, "mkfs.erofs", "-T0", payload, filepath.Join(dir, "tree"))
	st, err := os.Stat(payload)
	if err != nil {
		t.Fatal(err)
	}
	command(t, "veritysetup", "format", "--salt=-", "--hash-offset="+strconv.FormatInt(st.Size(), 10), "--root-hash-file="+hash, payload, payload)
	b, err := os.ReadFile(payload)
	if err != nil {
		t.Fatal(err)
	}
	size := (int64(len(b)) + 1<<20 - 1) &^ (1<<20 - 1)
	table := &gpt.Table{Sector: medium.SectorSize, Size: size + 16<<20, Partitions: []gpt.Partition{
		{Type: gpt.TypeESP, Name: medium.LabelESP, Start: 1 << 20, Size: 1 << 20},
		{Type: medium.TypePayload, Name: medium.LabelPayload, Start: 2 << 20, Size: size},
		{Type: medium.TypePapers, Name: medium.LabelPapers, Start: 2<<20 + size, Size: medium.PapersSize},
		{Type: medium.TypeAnswers, Name: medium.LabelAnswers, Start: 2<<20 + size + medium.PapersSize, Size: medium.AnswersSize},
	}}
	f, err := os.OpenFile(device, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Truncate(table.Size), table.Write(f)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, 2<<20); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(hash)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func command(t *testing.T, args ...string) {
	t.Helper()
	if _, err := program.Run(context.Background(), program.Command{Args: args}); err != nil {
		t.Fatal(err)
	}
}

// computer is a directory that plays /sys and /dev of a computer with these devices.
func computer(t *testing.T, devices ...string) (sys, dev string) {
	t.Helper()
	dir := t.TempDir()
	sys, dev = filepath.Join(dir, "sys"), filepath.Join(dir, "dev")
	for _, name := range devices {
		write(t, filepath.Join(sys, "block", name, "size"), "100000\n")
		write(t, filepath.Join(dev, name), "nothing")
	}
	return sys, dev
}

// The payload is found by what it is, on whichever device.
func TestFindPayload(t *testing.T) {
	sys, dev := computer(t, "loop0", "sda", "sdb", "sr0", "vda")
	if p, seen := findPayload(sys, dev, digest); p != nil || len(seen) > 0 {
		t.Errorf("found %+v, %q on a computer without a medium", p, seen)
	}
	device := filepath.Join(dev, "sr0")
	root := makeMedium(t, device, "ours")
	makeMedium(t, filepath.Join(dev, "sda"), "another's")
	// An image of a medium that somebody has attached is none.
	if err := os.Symlink(device, filepath.Join(dev, "loop1")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(sys, "block/loop1/size"), "100000\n")
	p, seen := findPayload(sys, dev, root)
	if p == nil || p.device != device || p.start != 2<<20 || p.papers.Length != medium.PapersSize ||
		p.answers != (Region{p.papers.Offset + medium.PapersSize, medium.AnswersSize}) {
		t.Fatalf("found %+v, %q", p, seen)
	}
	if p, seen := findPayload(sys, dev, digest); p != nil || len(seen) != 2 || !strings.Contains(seen[1], `the medium "`+device+`" is damaged or was changed: its payload has the root hash `+root[:12]+", and this boot file is for "+digest[:12]) {
		t.Errorf("with another boot file: %+v, %q", p, seen)
	}
	for _, c := range []struct {
		name, want string
		at         int64 // in the payload
	}{
		{"file system", "has no EROFS", 1024},
		{"super block of the tree", "superblock", p.super.Offset},
		{"top of the tree", "root hash", p.super.TreeOffset() + 100},
	} {
		flip(t, device, p.start+c.at)
		if q, seen := findPayload(sys, dev, root); q != nil || len(seen) != 2 || !strings.Contains(seen[1], c.want) {
			t.Errorf("with another %s: %+v, %q, want one with %q", c.name, q, seen, c.want)
		}
		flip(t, device, p.start+c.at)
	}
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

// checked is a payload as dm-verity gives it: some blocks are refused.
type checked struct {
	*bytes.Reader
	refused int64
	whole   bool // only reads of more than a block fail
}

func (c checked) ReadAt(p []byte, at int64) (int, error) {
	refused := at <= c.refused*medium.BlockSize && c.refused*medium.BlockSize < at+int64(len(p))
	if refused && (!c.whole || len(p) > medium.BlockSize) {
		return 0, unix.EIO
	}
	return c.Reader.ReadAt(p, at)
}

// All of a payload is read, and the first block that is refused is named with what
// is wrong with it.
func TestReadAll(t *testing.T) {
	content := make([]byte, 5<<20+3*medium.BlockSize)
	var read int64
	progress := func(n int64) { read = n }
	for _, c := range []struct {
		name    string
		refused int64
		whole   bool
		below   int64
		want    string
	}{
		{"good", -1, false, -1, ""},
		{"changed", 777, false, -1, `the medium "/dev/sda" is damaged or was changed: block 777 of its payload is not what was signed`},
		{"the last block", 5<<8 + 2, false, -1, "block 1282 of its payload is not"},
		{"worn out", 300, false, 300, `the medium "/dev/sda" cannot be read at block 300 of its payload: input/output error; it is worn out, or was pulled out`},
		{"read at the second try", 300, true, -1, ""},
	} {
		below := checked{bytes.NewReader(content), c.below, false}
		read = 0
		err := readAll(checked{bytes.NewReader(content), c.refused, c.whole}, int64(len(content)), progress,
			func(block int64) error { return unreadable("/dev/sda", below, block) })
		if c.want == "" && (err != nil || read != int64(len(content))) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: read %d bytes, error is %v, want one with %q", c.name, read, err, c.want)
		}
	}
}

func TestSealedByTheMedium(t *testing.T) {
	good := []Mount{
		{Point: "/", Type: "overlay", Options: []string{"ro"}},
		{Point: "/sysroot", Type: "erofs", Source: "/dev/dm-1", Options: []string{"ro", "nosuid"}},
	}
	m := &Medium{Payload: "/dev/dm-1"}
	if !m.Sealed(good) {
		t.Error("the root of a medium is not sealed")
	}
	for name, change := range map[string]func([]Mount){
		"a writable root":    func(l []Mount) { l[0].Options = []string{"rw"} },
		"another root":       func(l []Mount) { l[0].Type = "ext4" },
		"another device":     func(l []Mount) { l[1].Source = "/dev/sdb1" },
		"another filesystem": func(l []Mount) { l[1].Type = "ext4" },
	} {
		bad := append([]Mount{}, good...)
		change(bad)
		if m.Sealed(bad) {
			t.Errorf("%s is sealed", name)
		}
	}
	if m.Sealed(good[:1]) {
		t.Error("a root without its payload is sealed")
	}
}

// On a medium the installer takes the place of the login, on every console.
func TestLiveUnits(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // units that are there are no error
		if err := writeLiveUnits(dir, []string{"tty1", "ttyS0"}); err != nil {
			t.Fatal(err)
		}
	}
	for link, want := range map[string]string{
		"getty@tty1.service":                                   "/dev/null",
		"serial-getty@ttyS0.service":                           "/dev/null",
		"multi-user.target.wants/ashlar-install@tty1.service":  "/usr/lib/systemd/system/ashlar-install@.service",
		"multi-user.target.wants/ashlar-install@ttyS0.service": "/usr/lib/systemd/system/ashlar-install@.service",
	} {
		if got, err := os.Readlink(filepath.Join(dir, link)); err != nil || got != want {
			t.Errorf("%s leads to %q, %v, want %q", link, got, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "efi.automount")); err == nil {
		t.Error("an ESP is mounted on a medium")
	}
}
