// Package esptest makes boot files for tests: as small as a file can be that
// systemd-boot lists and package esp reads. They do not boot.
package esptest

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"fmt"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// Release is the boot file of a release: what esp reads of a real one.
func Release(name, version string, image verity.Digest) []byte {
	return UKI(
		fmt.Sprintf("ID=debian\nIMAGE_ID=%s\nIMAGE_VERSION=%s\nPRETTY_NAME=\"%s %s\"\n", name, version, name, version),
		fmt.Sprintf("rw ashlar.image=%s quiet\n", image))
}

// UKI is a PE file with these two sections; an empty one is left out.
func UKI(osrel, cmdline string) []byte {
	const align = 512
	type section struct{ name, content string }
	var sections []section
	for _, s := range []section{{".osrel", osrel}, {".cmdline", cmdline}} {
		if s.content != "" {
			sections = append(sections, s)
		}
	}
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) } // a Buffer takes everything
	dos := make([]byte, 64)
	copy(dos, "MZ")
	dos[0x3c] = 64 // where the PE header begins
	put(dos)
	put([]byte("PE\x00\x00"))
	optional := pe.OptionalHeader64{Magic: 0x20b, SectionAlignment: 4096, FileAlignment: align, SizeOfHeaders: align, Subsystem: 10, NumberOfRvaAndSizes: 16}
	put(pe.FileHeader{
		Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: uint16(len(sections)),
		SizeOfOptionalHeader: uint16(binary.Size(optional)), Characteristics: 0x22,
	})
	put(optional)
	offset := uint32(align)
	for i, s := range sections {
		h := pe.SectionHeader32{
			VirtualSize: uint32(len(s.content)), VirtualAddress: uint32(i+1) * 0x10000,
			SizeOfRawData: (uint32(len(s.content)) + align - 1) / align * align, PointerToRawData: offset,
		}
		copy(h.Name[:], s.name)
		put(h)
		offset += h.SizeOfRawData
	}
	for _, s := range sections {
		put(make([]byte, (align-b.Len()%align)%align))
		put([]byte(s.content))
	}
	put(make([]byte, (align-b.Len()%align)%align))
	return b.Bytes()
}
