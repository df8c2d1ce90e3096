package boot

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
)

// root is a fake / with that command line.
func root(t *testing.T, cmdline string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, cmdlineFile), []byte(cmdline))
	return dir
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// set sets an EFI variable of the loader.
func set(t *testing.T, root, name, value string) {
	t.Helper()
	b := []byte{6, 0, 0, 0}
	for _, u := range utf16.Encode([]rune(value + "\x00")) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	write(t, filepath.Join(root, efiDir, name+"-"+loaderVendor), b)
}

func TestReadState(t *testing.T) {
	r := root(t, "rw ashlar.image="+image(1).String()+" quiet\n")
	s, err := ReadState(r)
	if err != nil || s.Image != image(1) || s.EFI || s.Counted() {
		t.Errorf("without EFI: %+v, %v", s, err)
	}
	set(t, r, "LoaderInfo", "systemd-boot 257.13-1")
	set(t, r, "LoaderDevicePartUUID", "ABCDEF01-2345-6789-ABCD-EF0123456789")
	set(t, r, "LoaderEntrySelected", "ashlar_1_01aa00000000+2-1.efi")
	set(t, r, "LoaderBootCountPath", `\EFI\Linux\ashlar_1_01aa00000000+2-1.efi`)
	write(t, filepath.Join(r, efiDir, "SecureBoot-"+globalVendor), []byte{6, 0, 0, 0, 1})
	s, err = ReadState(r)
	if err != nil {
		t.Fatal(err)
	}
	want := State{
		Image: image(1), EFI: true, Loader: "systemd-boot 257.13-1",
		ESP: "abcdef01-2345-6789-abcd-ef0123456789", Entry: "ashlar_1_01aa00000000+2-1.efi",
		CountPath: "/EFI/Linux/ashlar_1_01aa00000000+2-1.efi", SecureBoot: true,
	}
	if *s != want || !s.Counted() {
		t.Errorf("read %+v, want %+v", *s, want)
	}
}

func TestReadStateRefuses(t *testing.T) {
	good := "ashlar.image=" + image(1).String()
	if _, err := ReadState(root(t, "root=/dev/sda1 quiet\n")); !errors.Is(err, ErrNotAshlar) {
		t.Errorf("another system: %v", err)
	}
	for _, cmdline := range []string{good + " " + good, good + "0", "ashlar.image=", strings.Repeat("x", maxCmdline+1)} {
		if s, err := ReadState(root(t, cmdline)); err == nil || errors.Is(err, ErrNotAshlar) {
			t.Errorf("%.40q…: %+v, %v", cmdline, s, err)
		}
	}
	for name, b := range map[string][]byte{"short": {6}, "odd": {6, 0, 0, 0, 'x'}, "long": make([]byte, maxVariable+1)} {
		r := root(t, good)
		write(t, filepath.Join(r, efiDir, "LoaderInfo-"+loaderVendor), b)
		if s, err := ReadState(r); err == nil || !strings.Contains(err.Error(), "LoaderInfo") {
			t.Errorf("a variable too %s: %+v, %v", name, s, err)
		}
	}
}
