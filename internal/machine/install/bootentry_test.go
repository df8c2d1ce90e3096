package install

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/machine/boot"
)

// firmware is a computer's variables, in a directory that plays efivarfs.
type firmware struct {
	t    *testing.T
	root string
}

func newFirmware(t *testing.T) *firmware {
	f := &firmware{t, t.TempDir()}
	if err := os.MkdirAll(filepath.Dir(f.path("x")), 0o755); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *firmware) path(name string) string { return boot.VariablePath(f.root, variable(name)) }

func (f *firmware) set(name string, value []byte) {
	f.t.Helper()
	if err := os.WriteFile(f.path(name), append([]byte{7, 0, 0, 0}, value...), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f *firmware) get(name string) []byte {
	f.t.Helper()
	b, err := os.ReadFile(f.path(name))
	if err != nil || len(b) < 4 || !bytes.Equal(b[:4], []byte{7, 0, 0, 0}) {
		f.t.Fatalf("%s is %x (%v)", name, b, err)
	}
	return b[4:]
}

func espAt(id gpt.UUID) Partition {
	return Partition{Number: 1, Start: mib, Size: gib, entry: gpt.Partition{ID: id}}
}

// The new system comes first, the others stay behind it, and installing again
// takes the number of the one that was on the disk.
func TestBootEntry(t *testing.T) {
	f := newFirmware(t)
	if !hasVariables(f.root) {
		f.set("BootOrder", []byte{2, 0, 0, 0})
	}
	f.set("Boot0000", []byte("the shell"))
	f.set("Boot0002", []byte("another system"))
	if !hasVariables(f.root) {
		t.Error("the firmware is said to have no variables")
	}
	first, second := newUUID(), newUUID()
	if err := enter(f.root, "Ashlar box", espAt(first), 512, gpt.UUID{}); err != nil {
		t.Fatal(err)
	}
	if got := f.get("BootOrder"); !bytes.Equal(got, []byte{1, 0, 2, 0, 0, 0}) {
		t.Errorf("the order is %x", got)
	}
	option := f.get("Boot0001")
	mixed := first.Mixed()
	text := string(bytes.ReplaceAll(option, []byte{0}, nil))
	if !bytes.Contains(option, mixed[:]) || !strings.Contains(text, "Ashlar box") || !strings.Contains(text, `\EFI\systemd\systemd-bootx64.efi`) {
		t.Errorf("the entry is %x", option)
	}
	if err := enter(f.root, "Ashlar box", espAt(second), 512, first); err != nil {
		t.Fatal(err)
	}
	mixed = second.Mixed()
	if got := f.get("Boot0001"); !bytes.Contains(got, mixed[:]) || len(f.get("BootOrder")) != 6 {
		t.Errorf("the entry is %x, the order %x", got, f.get("BootOrder"))
	}
}

// The layout of a load option, field by field, of one worked out by hand.
func TestLoadOption(t *testing.T) {
	got := loadOption("A", espAt(gpt.MustParse("00112233-4455-6677-8899-aabbccddeeff")), 512)
	want := "01000000" + "7800" + "41000000" + // active; bytes of the path; title
		"04012a00" + "01000000" + "0008000000000000" + "0000200000000000" + "33221100554477668899aabbccddeeff" + "0202" +
		"04044400" + hex.EncodeToString(ucs2(loaderOnESP)) + "7fff0400"
	length := binary.LittleEndian.Uint16(got[4:])
	if int(length) != len(got)-4-2-4 {
		t.Errorf("the path has %d bytes by its own word, and %d", length, len(got)-10)
	}
	file := 4 + len(ucs2(loaderOnESP))
	want = strings.Replace(want, "04044400", "0404"+hex.EncodeToString([]byte{byte(file), 0}), 1)
	want = strings.Replace(want, "7800", hex.EncodeToString([]byte{byte(42 + file + 4), 0}), 1)
	if hex.EncodeToString(got) != want {
		t.Errorf("the entry is\n%x, want\n%s", got, want)
	}
}
