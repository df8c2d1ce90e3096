package crashtest

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// TestBlocks: of what is written to a disk anything may be missing until it is flushed,
// and what is flushed through another device file is not meant.
func TestBlocks(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(name, make([]byte, 64<<10), 0o600))
	write := func(at int, text string) string {
		return fmt.Sprintf("printf %s | dd of=%s bs=1 seek=%d conv=notrunc status=none", text, name, at)
	}
	script := write(0, "a") + ";" + write(512, "b") + "; sync " + name + ";" + write(0, "c") + ";" + write(60<<10, "outside")
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	log, blocks, code := RecordDisk(t, cmd, dir, name, Section{0, 32 << 10})
	if code != 0 || len(log.Ops) > 0 || len(blocks.Ops) != 4 || !blocks.Waits() {
		t.Fatalf("it ended with %d: %v, %d operations on the disk", code, log.Ops, len(blocks.Ops))
	}
	found := make(map[string]bool)
	blocks.Cuts(1, func(_ int, image Image) {
		if b := image.read(60<<10, 7); string(b) == "outside" {
			t.Error("what is outside of the sections is looked at")
		}
		found[fmt.Sprintf("%c%c", image.read(0, 1)[0], image.read(512, 1)[0])] = true
	})
	want := []string{"\x00\x00", "\x00b", "a\x00", "ab", "cb"}
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, want) {
		t.Errorf("the disk may be %q, want %q", got, want)
	}
	if b := blocks.After().read(0, 1); b[0] != 'c' {
		t.Errorf("in the end it has %q", b)
	}
}

// TestFirmware: a partition table is found by its header or by the backup, as sgdisk
// wrote them, and a file below it as mtools did.
func TestFirmware(t *testing.T) {
	const size, at, length = 300 << 20, 1 << 20, 290 << 20
	name := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(name, nil, 0o600))
	must(t, os.Truncate(name, size))
	run(t, "sgdisk", "-n", "1:2048:+290M", "-t", "1:ef00", name)
	run(t, "mformat", "-F", "-i", fmt.Sprintf("%s@@%d", name, at), "-T", fmt.Sprint(length/512), "-h", "64", "-s", "32", "-c", "1", "::")
	text := filepath.Join(t.TempDir(), "text")
	must(t, os.WriteFile(text, []byte("content"), 0o600))
	drive := fmt.Sprintf("%s@@%d", name, at)
	run(t, "mmd", "-i", drive, "::/EFI", "::/EFI/BOOT")
	run(t, "mcopy", "-i", drive, text, "::/EFI/BOOT/BOOTX64.EFI")
	whole := LoadImage(t, name)
	for what, spoil := range map[string]func(Image){
		"nothing":     func(Image) {},
		"the header":  func(m Image) { delete(m, 1) },
		"an entry":    func(m Image) { m.patch(2, 0, []byte{1}) },
		"the backup":  func(m Image) { delete(m, size/512-1) },
		"all of both": func(m Image) { delete(m, 1); delete(m, size/512-1) },
	} {
		image := whole.clone()
		spoil(image)
		list := image.ESPs(size)
		if what == "all of both" {
			if len(list) > 0 {
				t.Errorf("without %s there is %v", what, list)
			}
			continue
		}
		if !slices.Equal(list, []Section{{at, length}}) {
			t.Errorf("without %s there is %v", what, list)
			continue
		}
		f := image.Section(list[0]).Find("EFI/BOOT/BOOTX64.EFI")
		if f == nil || f.Err != nil || string(f.Data) != "content" {
			t.Errorf("without %s the file is %+v", what, f)
		}
	}
	if f := whole.Section(Section{at, length}).Find("EFI/nothing"); f != nil {
		t.Errorf("there is %+v", f)
	}
}
