package authenticode

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// Offsets of the PE format. Those of the optional header count from its start.
const (
	dosHeaderSize  = 64
	dosPEOffset    = 0x3c
	fileHeaderSize = 24 // with the signature "PE\0\0"
	sectionSize    = 40
	optSizeOfHdrs  = 60
	optCheckSum    = 64
	optDirectories = 112 // of PE32+
	optCertTable   = optDirectories + 4*8
	magicPE32Plus  = 0x20b

	maxHeaders  = 64 << 10 // bytes; those of a boot file have 1 KiB
	maxSections = 96       // also the limit of Windows' loader
	maxTable    = 1 << 20  // bytes of all signatures of a program
)

// executable is a PE program as its header describes it: what is hashed and where
// the signatures are. Offsets are in bytes from the start of the file.
type executable struct {
	r         io.ReaderAt
	size      int64
	checksum  int64
	certEntry int64  // of the directory; 0: the header has none
	headers   []byte // SizeOfHeaders bytes
	sections  []extent
	hashed    int64 // headers and sections
	certTable int64 // offset and size of the certificate table
	certSize  int64
}

type extent struct{ offset, size int64 }

// parse reads the header of a program of size bytes.
func parse(r io.ReaderAt, size int64) (*executable, error) {
	p := &executable{r: r, size: size}
	dos := make([]byte, dosHeaderSize)
	if size < dosHeaderSize {
		return nil, fmt.Errorf("it is no EFI program: it has %d bytes", size)
	}
	if _, err := r.ReadAt(dos, 0); err != nil {
		return nil, fmt.Errorf("reading its header: %w", err)
	}
	if string(dos[:2]) != "MZ" {
		return nil, fmt.Errorf("it is no EFI program: it starts with %q, want %q", dos[:2], "MZ")
	}
	pe := int64(binary.LittleEndian.Uint32(dos[dosPEOffset:]))
	opt := pe + fileHeaderSize
	fixed := make([]byte, fileHeaderSize+optDirectories)
	if pe < dosHeaderSize || pe > maxHeaders || pe+int64(len(fixed)) > size {
		return nil, fmt.Errorf("it is no EFI program: its PE header would be at %d of %d bytes", pe, size)
	}
	if _, err := r.ReadAt(fixed, pe); err != nil {
		return nil, fmt.Errorf("reading its header: %w", err)
	}
	if string(fixed[:4]) != "PE\x00\x00" {
		return nil, fmt.Errorf("it is no EFI program: no %q at %d", "PE", pe)
	}
	u16 := func(at int64) int64 { return int64(binary.LittleEndian.Uint16(fixed[at:])) }
	u32 := func(at int64) int64 { return int64(binary.LittleEndian.Uint32(fixed[at:])) }
	if magic := u16(fileHeaderSize); magic != magicPE32Plus {
		return nil, fmt.Errorf("its optional header is of kind %#x, want %#x (PE32+)", magic, magicPE32Plus)
	}
	headers := u32(fileHeaderSize + optSizeOfHdrs)
	table := opt + u16(20) // behind the optional header
	count := u16(6)
	if count == 0 || count > maxSections {
		return nil, fmt.Errorf("it has %d sections, want 1 to %d", count, maxSections)
	}
	if tableEnd := table + count*sectionSize; headers < tableEnd || headers > maxHeaders || headers > size {
		return nil, fmt.Errorf("its headers do not fit: section table to %d, headers to %d, file of %d bytes", tableEnd, headers, size)
	}
	p.headers = make([]byte, headers)
	if _, err := r.ReadAt(p.headers, 0); err != nil {
		return nil, fmt.Errorf("reading its header: %w", err)
	}
	p.checksum = opt + optCheckSum
	if directories := u32(fileHeaderSize + optDirectories - 4); directories > 4 && opt+optCertTable+8 <= table {
		p.certEntry = opt + optCertTable
	}
	if err := p.readSections(table, count); err != nil {
		return nil, err
	}
	return p, p.findTable()
}

// readSections reads the section table. What is hashed is in the file once:
// firmware would hash overlapping sections twice, no linker makes them.
func (p *executable) readSections(table, count int64) error {
	p.hashed = int64(len(p.headers))
	for at := table; at < table+count*sectionSize; at += sectionSize {
		x := extent{
			size:   int64(binary.LittleEndian.Uint32(p.headers[at+16:])),
			offset: int64(binary.LittleEndian.Uint32(p.headers[at+20:])),
		}
		if x.size != 0 {
			p.sections = append(p.sections, x)
			p.hashed += x.size
		}
	}
	slices.SortFunc(p.sections, func(a, b extent) int { return cmp.Compare(a.offset, b.offset) })
	end := int64(len(p.headers))
	for _, x := range p.sections {
		if x.offset < end {
			return fmt.Errorf("its sections overlap at byte %d of the file", x.offset)
		}
		end = x.offset + x.size
	}
	if end > p.size {
		return fmt.Errorf("it is cut short: a section ends at %d of %d bytes", end, p.size)
	}
	return nil
}

// findTable finds the certificate table, which ends the file where there is one.
func (p *executable) findTable() error {
	if p.certEntry == 0 {
		return nil
	}
	p.certTable = int64(binary.LittleEndian.Uint32(p.headers[p.certEntry:]))
	p.certSize = int64(binary.LittleEndian.Uint32(p.headers[p.certEntry+4:]))
	switch {
	case p.certSize == 0:
		p.certTable = 0
		return nil
	case p.certSize > maxTable:
		return fmt.Errorf("its signatures have %d bytes, at most %d are read", p.certSize, maxTable)
	case p.certTable < p.hashed || p.certTable+p.certSize != p.size:
		return fmt.Errorf("its signatures are at %d to %d, not at the end of a file of %d bytes", p.certTable, p.certTable+p.certSize, p.size)
	}
	return nil
}

// digest is Authenticode's, as firmware computes it: the header without the
// checksum and the entry of the certificate table, the sections, and as many
// bytes as are left but for that table.
func (p *executable) digest() (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	h.Write(p.headers[:p.checksum])
	if p.certEntry == 0 {
		h.Write(p.headers[p.checksum+4:])
	} else {
		h.Write(p.headers[p.checksum+4 : p.certEntry])
		h.Write(p.headers[p.certEntry+8:])
	}
	rest := extent{p.hashed, p.size - p.certSize - p.hashed}
	for _, x := range append(slices.Clone(p.sections), rest) {
		n, err := io.Copy(h, io.NewSectionReader(p.r, x.offset, x.size))
		if err == nil && n != x.size {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return sum, fmt.Errorf("reading it: %w", err)
		}
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
