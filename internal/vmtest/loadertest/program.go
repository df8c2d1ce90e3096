package loadertest

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
)

// debugPort is where QEMU's isa-debugcon listens.
const debugPort = 0xe9

// Program is a boot file with these two sections that can be started: it writes
// its command line to the debug port, and resets the machine.
func Program(osrel, cmdline string) []byte {
	const align, page = 512, 4096
	sections := []struct {
		name    string
		content []byte
		flags   uint32
	}{
		{".text", nil, 0x60000020},
		{".osrel", []byte(osrel), 0x40000040},
		{".cmdline", append([]byte(cmdline), 0), 0x40000040},
	}
	// Every section has the same room in memory, so that addresses are known.
	room := uint32(page)
	for _, s := range sections {
		room = max(room, (uint32(len(s.content))+page-1)/page*page)
	}
	address := func(i int) uint32 { return uint32(i+1) * room }
	sections[0].content = code(address(2) - address(0))

	optional := pe.OptionalHeader64{
		Magic: 0x20b, AddressOfEntryPoint: address(0), BaseOfCode: address(0),
		SectionAlignment: page, FileAlignment: align, SizeOfHeaders: align,
		SizeOfImage: address(len(sections)), Subsystem: pe.IMAGE_SUBSYSTEM_EFI_APPLICATION, NumberOfRvaAndSizes: 16,
	}
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) } // a Buffer takes everything
	dos := make([]byte, 64)
	copy(dos, "MZ")
	dos[0x3c] = byte(len(dos)) // where the PE header begins
	put(dos)
	put([]byte("PE\x00\x00"))
	put(pe.FileHeader{
		Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: uint16(len(sections)),
		SizeOfOptionalHeader: uint16(binary.Size(optional)), Characteristics: 0x22,
	})
	put(optional)
	offset := uint32(align)
	for i, s := range sections {
		h := pe.SectionHeader32{
			VirtualSize: uint32(len(s.content)), VirtualAddress: address(i), Characteristics: s.flags,
			SizeOfRawData: (uint32(len(s.content)) + align - 1) / align * align, PointerToRawData: offset,
		}
		copy(h.Name[:], s.name)
		put(h)
		offset += h.SizeOfRawData
	}
	for _, s := range sections {
		put(make([]byte, (align-b.Len()%align)%align))
		put(s.content)
	}
	put(make([]byte, (align-b.Len()%align)%align))
	return b.Bytes()
}

// code writes the text that begins at distance from its own first byte to the
// debug port, up to a zero, and resets the machine by the chipset's register.
func code(distance uint32) []byte {
	b := []byte{0xfc, 0x48, 0x8d, 0x35}                  // cld; lea rsi, [rip+text]
	b = binary.LittleEndian.AppendUint32(b, distance-8)  // rip is behind these eight bytes
	b = append(b, 0x66, 0xba, debugPort, 0)              // mov dx, debugPort
	b = append(b, 0xac, 0x84, 0xc0, 0x74, 3, 0xee)       // next: lodsb; test al, al; jz end; out dx, al
	b = append(b, 0xeb, 0xf8)                            // jmp next
	b = append(b, 0x66, 0xba, 0xf9, 0x0c, 0xb0, 6, 0xee) // end: mov dx, 0xcf9; mov al, 6; out dx, al
	return append(b, 0xf4, 0xeb, 0xfd)                   // halt: hlt; jmp halt
}
