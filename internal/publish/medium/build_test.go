package medium

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// partitions reads the medium's partition table, as every reader does.
func partitions(t *testing.T, m made) map[string]gpt.Partition {
	t.Helper()
	f, err := os.Open(m.image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := gpt.Read(f, medium.SectorSize)
	if err != nil {
		t.Fatal(err)
	}
	parts := make(map[string]gpt.Partition)
	for i, p := range table.Partitions {
		if want := []string{medium.LabelESP, medium.LabelPayload, medium.LabelPapers, medium.LabelAnswers}; i >= len(want) || p.Name != want[i] {
			t.Fatalf("partition %d is %q", i+1, p.Name)
		}
		parts[p.Name] = p
	}
	return parts
}

// cut copies one partition into a file of its own, for tools that know no offsets.
func cut(t *testing.T, m made, name string) string {
	t.Helper()
	p := partitions(t, m)[name]
	image, err := os.Open(m.image)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	out, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, io.NewSectionReader(image, p.Start, p.Size)); err != nil {
		t.Fatal(err)
	}
	return out.Name()
}

// TestDiskAndDisc: the image is both, to the tools that know.
func TestDiskAndDisc(t *testing.T) {
	m := theMedium(t)
	if out := tool(t, "sgdisk", "-v", m.image); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v: %s", out)
	}
	if out := tool(t, "sfdisk", "--verify", m.image); !strings.Contains(out, "No errors detected") {
		t.Errorf("sfdisk --verify: %s", out)
	}
	parts := partitions(t, m)
	for name, want := range map[string]struct {
		kind gpt.UUID
		size int64 // 0: any
	}{
		medium.LabelESP: {gpt.TypeESP, 0}, medium.LabelPayload: {medium.TypePayload, 0},
		medium.LabelPapers: {medium.TypePapers, medium.PapersSize}, medium.LabelAnswers: {medium.TypeAnswers, medium.AnswersSize},
	} {
		p := parts[name]
		if p.Type != want.kind || want.size != 0 && p.Size != want.size || p.Start%(1<<20) != 0 || p.Size%medium.BlockSize != 0 {
			t.Errorf("partition %+v", p)
		}
	}
	for i, name := range []string{medium.LabelPapers, medium.LabelAnswers} {
		if r := m.Map.Open[i]; r.Offset != parts[name].Start || r.Length != parts[name].Size {
			t.Errorf("open region %+v, and the partition %+v", r, parts[name])
		}
	}

	// The catalogue of the disc starts the very same ESP, whose length it leaves open.
	report := tool(t, "xorriso", "-indev", "stdio:"+m.image, "-report_el_torito", "plain", "-find", "/", "-exec", "lsdl")
	entry := "El Torito boot img :   1  UEFI  y   none  0x0000  0x00      0         " + strconv.FormatInt(parts[medium.LabelESP].Start/2048, 10)
	if !strings.Contains(report, entry) {
		t.Errorf("xorriso reports %s\nwant %q", report, entry)
	}
	if size := tool(t, "xorriso", "-indev", "stdio:"+m.image, "-report_system_area", "plain"); !strings.Contains(size, fmt.Sprintf("ISO image size/512 : %d\n", m.Map.Size/512)) {
		t.Errorf("the volume does not cover the %d bytes of the image: %s", m.Map.Size, size)
	}
	if !strings.Contains(report, "'/README.TXT'") || strings.Count(report, "r--r--r--") != 2 { // the other is the catalogue
		t.Errorf("the ISO 9660 holds %s", report)
	}
	note := filepath.Join(t.TempDir(), "note")
	tool(t, "xorriso", "-osirrox", "on", "-indev", "stdio:"+m.image, "-extract", "/README.TXT", note)
	if text, err := os.ReadFile(note); err != nil || !strings.Contains(string(text), "install medium of test 1.2") {
		t.Errorf("the note says %q (%v)", text, err)
	}
}

func TestESP(t *testing.T) {
	m := theMedium(t)
	esp := cut(t, m, medium.LabelESP)
	tool(t, "fsck.vfat", "-n", esp)
	uki := "::/EFI/Linux/" + medium.BootFile("1.2", m.content.Image.String())
	list := strings.Fields(tool(t, "mdir", "-i", esp, "-/", "-b", "::/"))
	if got, want := strings.Join(list, " "), "::/EFI/ ::/loader/ ::/EFI/BOOT/ ::/EFI/Linux/ ::/EFI/BOOT/BOOTX64.EFI "+uki+" ::/loader/loader.conf"; got != want {
		t.Errorf("on the ESP: %s\nwant %s", got, want)
	}
	if got := tool(t, "mtype", "-i", esp, "::/EFI/BOOT/BOOTX64.EFI"); got != string(m.content.Loader) {
		t.Error("the loader on the ESP is another one")
	}
	if got := tool(t, "mtype", "-i", esp, uki); !strings.HasPrefix(got, m.RootHash.String()+"boot file") {
		t.Error("the boot file on the ESP was made for another payload")
	}
}

// TestPayload: what others make of the payload is what went in.
func TestPayload(t *testing.T) {
	m := theMedium(t)
	payload := cut(t, m, medium.LabelPayload)
	f, err := os.Open(payload)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	super, err := medium.ReadPayload(f, partitions(t, m)[medium.LabelPayload].Size)
	if err != nil {
		t.Fatal(err)
	}

	offset := "--hash-offset=" + strconv.FormatInt(super.Offset, 10)
	tool(t, "veritysetup", "verify", payload, payload, m.RootHash.String(), offset)
	other := m.RootHash
	other[0] ^= 1
	if out, err := command("veritysetup", "verify", payload, payload, other.String(), offset); err == nil {
		t.Errorf("veritysetup takes another root hash: %s", out)
	}

	image := filepath.Join(t.TempDir(), "image.erofs")
	copyPart(t, f, image, super.DataSize())
	tool(t, "fsck.erofs", image)
	extracted := filepath.Join(t.TempDir(), "extracted")
	tool(t, "fsck.erofs", "--extract="+extracted, "--no-preserve", image)
	checkStore(t, m.content, extracted)
}

// TestKernelMountsThePayload: fsck.erofs and the kernel are two readers. Only root
// can ask the kernel; another user has the other test.
func TestKernelMountsThePayload(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can mount")
		return
	}
	m := theMedium(t)
	payload, dir := cut(t, m, medium.LabelPayload), t.TempDir()
	tool(t, "mount", "-t", "erofs", "-o", "ro,loop", payload, dir)
	defer tool(t, "umount", dir)
	checkStore(t, m.content, dir)
	info, err := os.Stat(filepath.Join(dir, medium.UKI))
	if err != nil || !info.ModTime().Equal(m.content.Created) {
		t.Errorf("the boot file is of %v (%v), want %v", info.ModTime(), err, m.content.Created)
	}
}

func copyPart(t *testing.T, r io.ReaderAt, path string, size int64) {
	t.Helper()
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, io.NewSectionReader(r, 0, size)); err != nil {
		t.Fatal(err)
	}
}

// checkStore compares a payload's files with what they were made from, and sees
// that there are no others.
func checkStore(t *testing.T, c Content, dir string) {
	t.Helper()
	want := map[string]string{
		medium.UKI: c.UKI, medium.Loader: "", medium.Store + "/images/" + c.Image.String(): c.EROFS,
	}
	for _, obj := range c.Objects {
		name := obj.Digest.String()
		want[medium.Store+"/objects/"+name[:2]+"/"+name[2:]] = c.Object(obj.Digest)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := strings.TrimPrefix(path, dir)
		source, ok := want[name]
		delete(want, name)
		if !ok {
			t.Errorf("the payload has a file %q", name)
			return nil
		}
		expected := c.Loader
		if source != "" {
			if expected, err = os.ReadFile(source); err != nil {
				return err
			}
		}
		got, err := os.ReadFile(path)
		if err == nil && !bytes.Equal(got, expected) {
			t.Errorf("%q has other content", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range want {
		t.Errorf("the payload lacks %q", name)
	}
}

// TestMapCovers: every byte of the image is in an extent, or open, or zero; and the
// blob is the extents. That the extents are all
// there is, TestWriter shows.
func TestMapCovers(t *testing.T) {
	m := theMedium(t)
	decoded, err := medium.DecodeMap(m.Encoded)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := os.ReadFile(m.blocks)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(blob)) != decoded.Data() || medium.Digest(sha256.Sum256(blob)) != m.Blocks {
		t.Errorf("the blob has %d bytes, and %s is said of it", len(blob), m.Blocks)
	}
	for i, e := range decoded.Extents {
		if i > 0 {
			before := decoded.Extents[i-1].Offset + decoded.Extents[i-1].Length
			if gap := e.Offset - before; gap > 0 && gap <= maxGap && e.Offset%medium.MaxExtent != 0 && before%medium.MaxExtent != 0 {
				t.Errorf("only %d bytes lie between two extents at %d", gap, e.Offset)
			}
		}
		if e.Offset/medium.MaxExtent != (e.Offset+e.Length-1)/medium.MaxExtent {
			t.Errorf("extent %+v crosses a window", e)
		}
	}
	if data := decoded.Data(); data > 16<<20 {
		t.Errorf("%d bytes are in use: holes are not seen", data)
	}
}

// TestTwoBuildsGiveTheSameBytes builds from two copies that differ in all that
// the medium must not depend on: place, permissions, times, and the clock.
func TestTwoBuildsGiveTheSameBytes(t *testing.T) {
	m := theMedium(t)
	for began := time.Now(); time.Now().Unix() == began.Unix(); { // FAT and ISO 9660 count seconds
		time.Sleep(10 * time.Millisecond)
	}
	other := buildMedium(t, testContent(t, 0o755), t.TempDir())
	if !bytes.Equal(m.Encoded, other.Encoded) || m.Blocks != other.Blocks || m.RootHash != other.RootHash {
		t.Error("two builds gave two media")
	}
	tool(t, "cmp", m.blocks, other.blocks)
}

func TestBuildFails(t *testing.T) {
	unreadable := errors.New("no boot file today")
	for name, c := range map[string]struct {
		change func(c *Content)
		want   string
	}{
		"an object is missing":   {func(c *Content) { c.Object = func(verity.Digest) string { return "/nowhere" } }, "no such file"},
		"an object is too short": {func(c *Content) { c.Objects[3].Size++ }, "that the image says"},
		"no image":               {func(c *Content) { c.EROFS = "/nowhere" }, "no such file"},
		"no boot file": {func(c *Content) {
			c.BootFile = func(context.Context, string, medium.Digest) error { return unreadable }
		}, unreadable.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			content, dir := testContent(t, 0o644), t.TempDir()
			c.change(&content)
			_, err := Build(context.Background(), content, Options{Blocks: filepath.Join(t.TempDir(), "blocks"), Work: dir})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "making the install medium: ") {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}
