package uki

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Offsets and sizes of the PE format that are used here. Those of the
// optional header are for PE32+ and count from its start.
const (
	dosHeaderSize   = 64
	dosPEOffset     = 0x3c
	fileHeaderSize  = 24 // with the signature "PE\0\0"
	sectionHdrSize  = 40
	optInitialised  = 8
	optSectionAlign = 32
	optFileAlign    = 36
	optSizeOfImage  = 56
	optSizeOfHdrs   = 60
	optCheckSum     = 64
	optDirectories  = 112
	optCertTable    = optDirectories + 4*8

	machineAMD64    = 0x8664
	magicPE32Plus   = 0x20b
	scnInitialised  = 0x00000040
	scnMemRead      = 0x40000000
	maxStub         = 4 << 20
	maxStubSections = 64
)

// stubMagic is how systemd's stub names itself, in its section .sdmagic.
const stubMagic = "#### LoaderInfo: systemd-stub "

// section is one line of the section table.
type section struct {
	name                string
	vsize, vaddr        uint32
	rawSize, rawPointer uint32
	headerOffset        int // where the line is in the file
}

// stub is a private copy of the stub's bytes that is edited in place, and what
// its headers say.
type stub struct {
	data                    []byte
	opt                     int // offset of the optional header
	sections                []section
	tableEnd                int
	sectionAlign, fileAlign uint32
	sizeOfHeaders           uint32
}

func (s *stub) u16(at int) uint16        { return binary.LittleEndian.Uint16(s.data[at:]) }
func (s *stub) u32(at int) uint32        { return binary.LittleEndian.Uint32(s.data[at:]) }
func (s *stub) setU16(at int, v uint16)  { binary.LittleEndian.PutUint16(s.data[at:], v) }
func (s *stub) setU32(at int, v uint32)  { binary.LittleEndian.PutUint32(s.data[at:], v) }
func alignUp(n uint64, to uint32) uint64 { return (n + uint64(to) - 1) &^ (uint64(to) - 1) }
func isPowerOfTwo(n uint32) bool         { return n != 0 && n&(n-1) == 0 }
func (s *stub) raw(x section) []byte     { return s.data[x.rawPointer : x.rawPointer+x.rawSize] }
func (s *stub) fileHeader() int          { return s.opt - fileHeaderSize }
func (s *stub) directory(offset int) bool {
	return s.u32(s.opt+optDirectories-4) > uint32((offset-optDirectories)/8)
}

// parseStub checks that b is systemd's stub, whole, unsigned, for this
// architecture, and laid out without gaps (so that the order of the file is
// the order in which Authenticode hashes it).
func parseStub(b []byte) (*stub, error) {
	if len(b) > maxStub {
		return nil, fmt.Errorf("it is %d bytes long, more than a stub can be (%d)", len(b), maxStub)
	}
	if len(b) < dosHeaderSize || b[0] != 'M' || b[1] != 'Z' {
		return nil, fmt.Errorf("it is no PE file: no %q at its start", "MZ")
	}
	s := &stub{data: bytes.Clone(b)}
	pe := uint64(s.u32(dosPEOffset))
	if pe < dosHeaderSize || pe+fileHeaderSize+optCertTable+8 > uint64(len(b)) {
		return nil, fmt.Errorf("it is cut short: the PE header would be at %d of %d bytes", pe, len(b))
	}
	if string(b[pe:pe+4]) != "PE\x00\x00" {
		return nil, fmt.Errorf("it is no PE file: no %q at %d", "PE", pe)
	}
	s.opt = int(pe) + fileHeaderSize
	if m := s.u16(int(pe) + 4); m != machineAMD64 {
		return nil, fmt.Errorf("it is for machine type %#x, want %#x (x86-64)", m, machineAMD64)
	}
	if symbols := s.u32(int(pe) + 12); symbols != 0 {
		return nil, fmt.Errorf("it has a symbol table at %d; strip it", symbols)
	}
	if m := s.u16(s.opt); m != magicPE32Plus {
		return nil, fmt.Errorf("its optional header is of kind %#x, want %#x (PE32+)", m, magicPE32Plus)
	}
	optSize := int(s.u16(int(pe) + 20))
	if optSize < optCertTable+8 || !s.directory(optCertTable) {
		return nil, fmt.Errorf("its optional header has %d bytes and no room for a signature", optSize)
	}
	if s.u32(s.opt+optCertTable) != 0 || s.u32(s.opt+optCertTable+4) != 0 {
		return nil, fmt.Errorf("it is signed already; the boot file is what has to be signed")
	}
	s.sectionAlign, s.fileAlign = s.u32(s.opt+optSectionAlign), s.u32(s.opt+optFileAlign)
	s.sizeOfHeaders = s.u32(s.opt + optSizeOfHdrs)
	if !isPowerOfTwo(s.sectionAlign) || !isPowerOfTwo(s.fileAlign) || s.fileAlign < 8 || s.fileAlign > s.sectionAlign || s.sectionAlign > 1<<20 {
		return nil, fmt.Errorf("its alignments make no sense: sections %d, file %d", s.sectionAlign, s.fileAlign)
	}
	if err := s.parseSections(s.opt+optSize, int(s.u16(int(pe)+6))); err != nil {
		return nil, err
	}
	magic, ok := s.section(".sdmagic")
	if !ok || !bytes.HasPrefix(s.raw(magic), []byte(stubMagic)) {
		return nil, fmt.Errorf("it is not systemd's stub: no section .sdmagic that says %q", stubMagic)
	}
	return s, nil
}

// parseSections reads n lines of the section table at offset table.
func (s *stub) parseSections(table, n int) error {
	if n == 0 || n > maxStubSections {
		return fmt.Errorf("it has %d sections, want 1 to %d", n, maxStubSections)
	}
	s.tableEnd = table + n*sectionHdrSize
	if uint64(s.tableEnd) > uint64(s.sizeOfHeaders) || uint64(s.sizeOfHeaders) > uint64(len(s.data)) {
		return fmt.Errorf("its headers do not fit: section table to %d, headers to %d, file of %d bytes", s.tableEnd, s.sizeOfHeaders, len(s.data))
	}
	end, vend := uint64(s.sizeOfHeaders), uint64(0)
	for at := table; at < s.tableEnd; at += sectionHdrSize {
		x := section{
			name:         string(bytes.TrimRight(s.data[at:at+8], "\x00")),
			vsize:        s.u32(at + 8),
			vaddr:        s.u32(at + 12),
			rawSize:      s.u32(at + 16),
			rawPointer:   s.u32(at + 20),
			headerOffset: at,
		}
		if uint64(x.vaddr) < vend || x.vaddr%s.sectionAlign != 0 {
			return fmt.Errorf("section %q is loaded at %#x, over its neighbour or not aligned", x.name, x.vaddr)
		}
		vend = uint64(x.vaddr) + uint64(x.vsize)
		if x.rawSize != 0 {
			if uint64(x.rawPointer) != end {
				return fmt.Errorf("section %q is at %d of the file, want %d: there is a gap or an overlap", x.name, x.rawPointer, end)
			}
			if end += uint64(x.rawSize); end > uint64(len(s.data)) {
				return fmt.Errorf("it is cut short: section %q ends at %d of %d bytes", x.name, end, len(s.data))
			}
		}
		s.sections = append(s.sections, x)
	}
	if end != uint64(len(s.data)) {
		return fmt.Errorf("it has %d bytes behind its last section", uint64(len(s.data))-end)
	}
	return nil
}

func (s *stub) section(name string) (section, bool) {
	for _, x := range s.sections {
		if x.name == name {
			return x, true
		}
	}
	return section{}, false
}

// appendSBAT adds lines to the stub's own .sbat, within the room that its
// alignment leaves.
func (s *stub) appendSBAT(lines []byte) error {
	x, ok := s.section(".sbat")
	if !ok {
		return fmt.Errorf("the stub has no section .sbat to add to")
	}
	have := bytes.TrimRight(s.raw(x)[:min(x.vsize, x.rawSize)], "\x00")
	all := append(bytes.Clone(have), lines...)
	if len(all) > int(x.rawSize) {
		return fmt.Errorf("the stub's section .sbat has room for %d bytes, want %d", x.rawSize, len(all))
	}
	clear(s.raw(x))
	copy(s.raw(x), all)
	s.setU32(x.headerOffset+8, uint32(len(all)))
	return nil
}
