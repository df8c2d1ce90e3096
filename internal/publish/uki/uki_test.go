package uki

import (
	"bytes"
	"context"
	"debug/pe"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/authenticode"
	"github.com/ashlar-os/ashlar/internal/image/authenticode/authenticodetest"
	"github.com/ashlar-os/ashlar/internal/program"
)

// testStub makes a PE program that has what systemd's stub has: code, .sbat
// and .sdmagic, laid out with the same alignments. lines is how many section
// headers fit beside its own.
func testStub(lines int) []byte {
	const fileAlign, sectionAlign, pe = 0x200, 0x1000, 0x80
	sections := []struct {
		name string
		data string
	}{
		{".text", "\xc3"},
		{".sbat", "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n"},
		{".sdmagic", stubMagic + "257 ####\x00"},
	}
	table := pe + fileHeaderSize + 240
	headers := int(alignUp(uint64(table+(len(sections)+lines)*sectionHdrSize), fileAlign))
	b := make([]byte, headers)
	copy(b, "MZ")
	binary.LittleEndian.PutUint32(b[dosPEOffset:], pe)
	copy(b[pe:], "PE\x00\x00")
	s := &stub{data: b, opt: pe + fileHeaderSize}
	s.setU16(pe+4, machineAMD64)
	s.setU16(pe+6, uint16(len(sections)))
	s.setU16(pe+20, 240)
	s.setU16(pe+22, 0x22e)
	s.setU16(s.opt, magicPE32Plus)
	s.setU32(s.opt+16, sectionAlign) // entry point
	s.setU32(s.opt+optSectionAlign, sectionAlign)
	s.setU32(s.opt+optFileAlign, fileAlign)
	s.setU32(s.opt+optSizeOfHdrs, uint32(headers))
	s.setU16(s.opt+68, 10) // EFI application
	s.setU32(s.opt+optDirectories-4, 16)
	for i, x := range sections {
		at := table + i*sectionHdrSize
		copy(s.data[at:], x.name)
		s.setU32(at+8, uint32(len(x.data)))
		s.setU32(at+12, uint32((i+1)*sectionAlign))
		s.setU32(at+16, fileAlign)
		s.setU32(at+20, uint32(len(s.data)))
		s.setU32(at+36, scnMemRead|scnInitialised)
		raw := make([]byte, fileAlign)
		copy(raw, x.data)
		s.data = append(s.data, raw...)
	}
	s.setU32(s.opt+optSizeOfImage, uint32((len(sections)+1)*sectionAlign))
	return s.data
}

func testOptions() Options {
	linux := bytes.Repeat([]byte("MZ kernel"), 1000)
	initrd := bytes.Repeat([]byte("070701"), 5001)
	return Options{
		Stub:      testStub(6),
		OSRelease: []byte("ID=ashlar\nIMAGE_ID=minimal\nIMAGE_VERSION=1.0.0\n"),
		Cmdline:   "ashlar.image=" + strings.Repeat("ab", 32) + " quiet",
		Uname:     "6.12.1-test",
		SBAT:      []byte("ashlar,1,Ashlar,ashlar,1,https://example.org/\n"),
		Linux:     readerOf(linux),
		Initrd:    readerOf(initrd),
	}
}

func build(t *testing.T, o Options) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Build(&b, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func content(t *testing.T, r *io.SectionReader) []byte {
	t.Helper()
	b := make([]byte, r.Size())
	if _, err := r.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// Every section reads back as it was given, .linux last, and the headers agree
// with what is there.
func TestSectionsReadBack(t *testing.T) {
	o := testOptions()
	image := build(t, o)
	f, err := pe.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{
		".osrel": o.OSRelease, ".cmdline": []byte(o.Cmdline), ".uname": []byte(o.Uname),
		".initrd": content(t, o.Initrd), ".linux": content(t, o.Linux),
	}
	for name, data := range want {
		s := f.Section(name)
		if s == nil {
			t.Fatalf("no section %s", name)
		}
		got, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		if int(s.VirtualSize) != len(data) || !bytes.Equal(got[:len(data)], data) {
			t.Errorf("section %s differs", name)
		}
		if s.Offset%0x200 != 0 || s.Size%0x200 != 0 || s.VirtualAddress%0x1000 != 0 {
			t.Errorf("section %s is not aligned: %+v", name, s.SectionHeader)
		}
	}
	sbat, _ := f.Section(".sbat").Data()
	if !strings.HasPrefix(string(sbat), "sbat,1,SBAT Version") || !bytes.Contains(sbat, o.SBAT) {
		t.Errorf(".sbat is %q", sbat)
	}
	last := f.Sections[len(f.Sections)-1]
	if last.Name != ".linux" {
		t.Errorf("the last section is %s", last.Name)
	}
	opt := f.OptionalHeader.(*pe.OptionalHeader64)
	if end := alignUp(uint64(last.VirtualAddress+last.VirtualSize), 0x1000); uint64(opt.SizeOfImage) != end {
		t.Errorf("SizeOfImage is %#x, want %#x", opt.SizeOfImage, end)
	}
	if got := peChecksum(image, int(opt.CheckSum)); got != opt.CheckSum {
		t.Errorf("CheckSum is %#x, the file sums up to %#x", opt.CheckSum, got)
	}
}

// peChecksum sums a file up in the plainest way: all words, less the field itself.
func peChecksum(image []byte, field int) uint32 {
	sum := uint64(0)
	for i := 0; i+1 < len(image); i += 2 {
		sum += uint64(binary.LittleEndian.Uint16(image[i:]))
	}
	sum -= uint64(field & 0xffff)
	sum -= uint64(field >> 16)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint32(sum) + uint32(len(image))
}

// objdump, another reader of PE, sees the same sections.
func TestObjdumpAgrees(t *testing.T) {
	o := testOptions()
	path := filepath.Join(t.TempDir(), "image.efi")
	if err := os.WriteFile(path, build(t, o), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{".initrd": content(t, o.Initrd), ".cmdline": []byte(o.Cmdline)} {
		out := path + name
		if _, err := program.Run(context.Background(), program.Command{
			Args: []string{"objcopy", "-O", "binary", "--only-section=" + name, "--set-section-flags", name + "=alloc,load", path, out},
		}); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(bytes.TrimRight(got, "\x00"), want) {
			t.Errorf("objcopy reads %d bytes of %s, want %d", len(got), name, len(want))
		}
	}
}

// sbverify accepts a signed boot file, and refuses it once a byte of the
// initramfs is another.
func TestSbverify(t *testing.T) {
	signer := authenticodetest.New(t, "test")
	o := testOptions()
	o.Signer = signer.Signer
	image := build(t, o)
	dir := t.TempDir()
	verify := func(name string, image []byte) error {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, image, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := program.Run(context.Background(), program.Command{Args: []string{"sbverify", "--cert", signer.CertFile, path}})
		return err
	}
	if err := verify("good.efi", image); err != nil {
		t.Error(err)
	}
	f, err := pe.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	if opt := f.OptionalHeader.(*pe.OptionalHeader64); peChecksum(image, int(opt.CheckSum)) != opt.CheckSum {
		t.Error("the checksum of the signed file is wrong")
	}
	bad := bytes.Clone(image)
	bad[f.Section(".initrd").Offset+100] ^= 1
	if err := verify("bad.efi", bad); err == nil {
		t.Error("sbverify accepts a changed initramfs")
	}
	// What a machine reads before it stages the boot file.
	for _, c := range []struct {
		image []byte
		good  bool
	}{{image, true}, {bad, false}} {
		got, err := authenticode.Read(bytes.NewReader(c.image), int64(len(c.image)))
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Signatures) != 1 || (got.Signatures[0].Err == nil) != c.good {
			t.Errorf("read back: %+v, want one that is good: %t", got.Signatures, c.good)
		}
	}
}

// The same inputs give the same bytes, signed or not.
func TestReproducible(t *testing.T) {
	signer := authenticodetest.New(t, "test")
	for _, s := range []*authenticode.Signer{nil, signer.Signer} {
		o := testOptions()
		o.Signer = s
		first := build(t, o)
		if !bytes.Equal(first, build(t, o)) {
			t.Errorf("two builds differ (signed: %t)", s != nil)
		}
	}
}

func TestBadInput(t *testing.T) {
	edit := func(f func(o *Options)) Options {
		o := testOptions()
		f(&o)
		return o
	}
	patch := func(at int, v ...byte) Options {
		o := testOptions()
		copy(o.Stub[at:], v)
		return o
	}
	const table = 0x80 + fileHeaderSize + 240
	for _, c := range []struct {
		name, want string
		o          Options
	}{
		{"empty stub", "no PE file", edit(func(o *Options) { o.Stub = nil })},
		{"text as stub", "no PE file", edit(func(o *Options) { o.Stub = bytes.Repeat([]byte("text"), 100) })},
		{"stub cut in the header", "cut short", edit(func(o *Options) { o.Stub = o.Stub[:200] })},
		{"stub cut in a section", "cut short", edit(func(o *Options) { o.Stub = o.Stub[:len(o.Stub)-10] })},
		{"header far away", "cut short", patch(dosPEOffset, 0xff, 0xff, 0xff, 0xff)},
		{"arm64 stub", "machine type", patch(0x84, 0x64, 0xaa)},
		{"32-bit header", "optional header", patch(0x80+fileHeaderSize, 0x0b, 0x01)},
		{"signed stub", "signed already", patch(0x80+fileHeaderSize+optCertTable, 1)},
		{"silly alignment", "alignments", patch(0x80+fileHeaderSize+optFileAlign, 3)},
		{"no sections", "0 sections", patch(0x86, 0, 0)},
		{"overlapping sections", "over its neighbour", patch(table+sectionHdrSize+12, 0, 0x10, 0, 0)},
		{"gap", "gap or an overlap", patch(table+20, 0, 0x10)},
		{"another program", "not systemd's stub", edit(func(o *Options) { o.Stub = bytes.Replace(o.Stub, []byte("#### Loader"), []byte("#### loader"), 1) })},
		{"trailing bytes", "behind its last section", edit(func(o *Options) { o.Stub = append(o.Stub, 1) })},
		{"no header room", "no room for section .", edit(func(o *Options) { o.Stub = testStub(0) })},
		{"much sbat", "room for 512 bytes", edit(func(o *Options) { o.SBAT = bytes.Repeat([]byte("a"), 600) })},
		{"long command line", "takes 2047", edit(func(o *Options) { o.Cmdline = strings.Repeat("a", 2048) })},
		{"newline in command line", "not printable", edit(func(o *Options) { o.Cmdline = "a\nb" })},
		{"no os-release", "os-release is empty", edit(func(o *Options) { o.OSRelease = nil })},
		{"no version", "kernel version", edit(func(o *Options) { o.Uname = "" })},
		{"no kernel", "kernel is missing", edit(func(o *Options) { o.Linux = nil })},
		{"kernel that is none", "no EFI program", edit(func(o *Options) { o.Linux = readerOf(make([]byte, 5000)) })},
		{"no initramfs", "initramfs is empty", edit(func(o *Options) { o.Initrd = readerOf(nil) })},
		{"huge initramfs", "larger than", edit(func(o *Options) { o.Initrd = io.NewSectionReader(bytes.NewReader(nil), 0, 2<<30) })},
		{"initramfs shorter than said", "unexpected EOF", edit(func(o *Options) { o.Initrd = io.NewSectionReader(bytes.NewReader([]byte("x")), 0, 100) })},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			err := Build(&out, c.o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error is %v, want one with %q", err, c.want)
			}
			if out.Len() != 0 {
				t.Errorf("%d bytes were written before the error", out.Len())
			}
		})
	}
}

func FuzzStub(f *testing.F) {
	f.Add(testStub(6))
	f.Add(testStub(0))
	f.Add([]byte("MZ"))
	f.Fuzz(func(t *testing.T, b []byte) {
		o := testOptions()
		o.Stub = b
		var out bytes.Buffer
		if err := Build(&out, o); err != nil {
			return
		}
		if _, err := pe.NewFile(bytes.NewReader(out.Bytes())); err != nil {
			t.Errorf("made of an accepted stub, but: %v", err)
		}
	})
}
