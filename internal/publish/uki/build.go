package uki

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/authenticode"
)

// maxCmdline is the longest command line that x86 kernels take, in bytes
// (COMMAND_LINE_SIZE with its NUL).
const maxCmdline = 2047

// maxImage bounds a boot file, in bytes: firmware loads it into memory whole.
const maxImage = 1 << 30

// Options is what a boot file is made of.
type Options struct {
	Stub      []byte               // systemd's linuxx64.efi.stub
	OSRelease []byte               // os-release(5) text
	Cmdline   string               // kernel command line, one line
	Uname     string               // kernel version, such as "6.12.48+deb13-amd64"
	SBAT      []byte               // lines to add to the stub's .sbat; may be empty
	Initrd    *io.SectionReader    // cpio archive
	Linux     *io.SectionReader    // vmlinuz, itself a PE program
	Signer    *authenticode.Signer // nil: not signed
}

// Build writes the boot file to w.
func Build(w io.Writer, o Options) error {
	f, err := assemble(o)
	if err != nil {
		return fmt.Errorf("making the boot file: %w", err)
	}
	if err := f.seal(o.Signer); err != nil {
		return fmt.Errorf("making the boot file: %w", err)
	}
	if err := f.write(w); err != nil {
		return fmt.Errorf("writing the boot file: %w", err)
	}
	return nil
}

// file is a laid-out boot file: the edited stub, what follows it, and the
// signature with its header, if any.
type file struct {
	stub      *stub
	parts     []part
	signature []byte
}

// part is the content of an added section and the zeroes that pad it.
type part struct {
	name    string
	content *io.SectionReader
	padding int64
}

func assemble(o Options) (*file, error) {
	if err := checkOptions(o); err != nil {
		return nil, err
	}
	s, err := parseStub(o.Stub)
	if err != nil {
		return nil, fmt.Errorf("the stub cannot be used: %w", err)
	}
	if len(o.SBAT) > 0 {
		if err := s.appendSBAT(o.SBAT); err != nil {
			return nil, err
		}
	}
	f := &file{stub: s}
	for _, p := range []part{
		{name: ".osrel", content: readerOf(o.OSRelease)},
		{name: ".cmdline", content: readerOf([]byte(o.Cmdline))},
		{name: ".uname", content: readerOf([]byte(o.Uname))},
		{name: ".initrd", content: o.Initrd},
		{name: ".linux", content: o.Linux},
	} {
		if err := f.add(p); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func checkOptions(o Options) error {
	if len(o.OSRelease) == 0 {
		return fmt.Errorf("os-release is empty: the loader would not list the boot file")
	}
	if len(o.Cmdline) > maxCmdline {
		return fmt.Errorf("the kernel command line has %d bytes, the kernel takes %d", len(o.Cmdline), maxCmdline)
	}
	if i := strings.IndexFunc(o.Cmdline, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
		return fmt.Errorf("the kernel command line %q has a character at %d that is not printable ASCII", o.Cmdline, i)
	}
	if o.Uname == "" || strings.ContainsAny(o.Uname, " \n\x00") {
		return fmt.Errorf("the kernel version %q is none", o.Uname)
	}
	var magic [4]byte
	if o.Linux == nil || o.Linux.Size() < 0x1000 {
		return fmt.Errorf("the kernel is missing or too short")
	}
	if _, err := o.Linux.ReadAt(magic[:2], 0); err != nil {
		return fmt.Errorf("reading the kernel: %w", err)
	}
	if string(magic[:2]) != "MZ" {
		return fmt.Errorf("the kernel is no EFI program: it starts with %q, want %q", magic[:2], "MZ")
	}
	if o.Initrd == nil || o.Initrd.Size() == 0 {
		return fmt.Errorf("the initramfs is empty")
	}
	return nil
}

func readerOf(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}

// add lays p out behind what is there and writes its line of the section table.
func (f *file) add(p part) error {
	s := f.stub
	if _, ok := s.section(p.name); ok {
		return fmt.Errorf("the stub cannot be used: it has a section %s already", p.name)
	}
	if s.tableEnd+sectionHdrSize > int(s.sizeOfHeaders) {
		return fmt.Errorf("the stub cannot be used: its header has no room for section %s", p.name)
	}
	last := s.sections[len(s.sections)-1]
	size := uint64(p.content.Size())
	raw := alignUp(size, s.fileAlign)
	vaddr := alignUp(uint64(last.vaddr)+uint64(last.vsize), s.sectionAlign)
	image := alignUp(vaddr+size, s.sectionAlign)
	if image > maxImage || uint64(f.size())+raw > maxImage {
		return fmt.Errorf("section %s of %d bytes makes the boot file larger than %d", p.name, size, maxImage)
	}
	x := section{
		name: p.name, headerOffset: s.tableEnd,
		vsize: uint32(size), vaddr: uint32(vaddr),
		rawSize: uint32(raw), rawPointer: uint32(f.size()),
	}
	at := x.headerOffset
	clear(s.data[at : at+sectionHdrSize])
	copy(s.data[at:at+8], x.name)
	s.setU32(at+8, x.vsize)
	s.setU32(at+12, x.vaddr)
	s.setU32(at+16, x.rawSize)
	s.setU32(at+20, x.rawPointer)
	s.setU32(at+36, scnInitialised|scnMemRead)
	s.tableEnd += sectionHdrSize
	s.sections = append(s.sections, x)

	s.setU16(s.fileHeader()+6, uint16(len(s.sections)))
	s.setU32(s.opt+optSizeOfImage, uint32(image))
	s.setU32(s.opt+optInitialised, s.u32(s.opt+optInitialised)+x.rawSize)
	p.padding = int64(raw - size)
	f.parts = append(f.parts, p)
	return nil
}

// size is the length of the file without its signature, in bytes.
func (f *file) size() int64 {
	n := int64(len(f.stub.data))
	for _, p := range f.parts {
		n += p.content.Size() + p.padding
	}
	return n
}

// seal signs the file, if it is to be signed, and sets the checksum.
func (f *file) seal(signer *authenticode.Signer) error {
	s := f.stub
	s.setU32(s.opt+optCheckSum, 0)
	// Authenticode hashes the file but for the checksum, the entry of the
	// certificate table and that table.
	hash, sum := sha256.New(), new(authenticode.Checksum)
	hash.Write(s.data[:s.opt+optCheckSum])
	hash.Write(s.data[s.opt+optCheckSum+4 : s.opt+optCertTable])
	hash.Write(s.data[s.opt+optCertTable+8:])
	if err := f.writeParts(io.MultiWriter(hash, sum)); err != nil {
		return err
	}
	if signer != nil {
		var err error
		if f.signature, err = signer.Sign(hash.Sum(nil)); err != nil {
			return err
		}
		s.setU32(s.opt+optCertTable, uint32(f.size()))
		s.setU32(s.opt+optCertTable+4, uint32(len(f.signature)))
	}
	sum.Write(s.data)
	sum.Write(f.signature)
	s.setU32(s.opt+optCheckSum, sum.Value(f.size()+int64(len(f.signature))))
	return nil
}

// write writes the finished file.
func (f *file) write(w io.Writer) error {
	if _, err := w.Write(f.stub.data); err != nil {
		return err
	}
	if err := f.writeParts(w); err != nil {
		return err
	}
	_, err := w.Write(f.signature)
	return err
}

// writeParts writes the added sections. Each part is read anew.
func (f *file) writeParts(w io.Writer) error {
	zeroes := make([]byte, f.stub.fileAlign)
	for _, p := range f.parts {
		n, err := io.Copy(w, io.NewSectionReader(p.content, 0, p.content.Size()))
		if err == nil && n != p.content.Size() {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("section %s: %w", p.name, err)
		}
		if _, err := w.Write(zeroes[:p.padding]); err != nil {
			return err
		}
	}
	return nil
}
