package diskimage

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// The GUID partition table, UEFI specification 2.10 §5.3, for disks with
// 512-byte sectors.
const (
	sectorSize   = 512
	entrySize    = 128
	entryCount   = 128 // the least that the specification allows
	entrySectors = entryCount * entrySize / sectorSize
	headerSize   = 92
	nameUnits    = 36 // UTF-16 code units of a partition's name
)

// Partition types: the ESP's from the UEFI specification, root's from the
// Discoverable Partitions Specification.
var (
	typeESP  = parseUUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
	typeRoot = parseUUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
)

// partition is one entry of the table. Start and Size are bytes.
type partition struct {
	Type, ID    uuid
	Name        string
	Start, Size int64
}

// writeGPT writes the protective MBR, the table and its backup to a disk of
// size bytes. It writes nothing between them.
func writeGPT(w io.WriterAt, size int64, disk uuid, parts []partition) error {
	last := uint64(size/sectorSize) - 1
	usableFirst, usableLast := uint64(2+entrySectors), last-entrySectors-1

	entries := make([]byte, entryCount*entrySize)
	for i, p := range parts {
		first, end := uint64(p.Start/sectorSize), uint64((p.Start+p.Size)/sectorSize)-1
		if first < usableFirst || end > usableLast || end < first {
			return fmt.Errorf("partition %q (sectors %d to %d) is outside the disk's sectors %d to %d", p.Name, first, end, usableFirst, usableLast)
		}
		e := entries[i*entrySize:]
		copy(e[0:], p.Type.mixed())
		copy(e[16:], p.ID.mixed())
		binary.LittleEndian.PutUint64(e[32:], first)
		binary.LittleEndian.PutUint64(e[40:], end)
		name := utf16.Encode([]rune(p.Name))
		if len(name) > nameUnits {
			return fmt.Errorf("partition name %q is longer than %d characters", p.Name, nameUnits)
		}
		for j, c := range name {
			binary.LittleEndian.PutUint16(e[56+2*j:], c)
		}
	}

	header := func(self, other, table uint64) []byte {
		h := make([]byte, sectorSize)
		copy(h, "EFI PART")
		binary.LittleEndian.PutUint32(h[8:], 0x00010000) // revision 1.0
		binary.LittleEndian.PutUint32(h[12:], headerSize)
		binary.LittleEndian.PutUint64(h[24:], self)
		binary.LittleEndian.PutUint64(h[32:], other)
		binary.LittleEndian.PutUint64(h[40:], usableFirst)
		binary.LittleEndian.PutUint64(h[48:], usableLast)
		copy(h[56:], disk.mixed())
		binary.LittleEndian.PutUint64(h[72:], table)
		binary.LittleEndian.PutUint32(h[80:], entryCount)
		binary.LittleEndian.PutUint32(h[84:], entrySize)
		binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
		binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerSize])) // over a zero in its own place
		return h
	}
	for _, part := range []struct {
		lba  uint64
		data []byte
	}{
		{0, protectiveMBR(last)},
		{1, header(1, last, 2)},
		{2, entries},
		{last - entrySectors, entries},
		{last, header(last, 1, last-entrySectors)},
	} {
		if _, err := w.WriteAt(part.data, int64(part.lba)*sectorSize); err != nil {
			return fmt.Errorf("writing the partition table: %w", err)
		}
	}
	return nil
}

// protectiveMBR shows the whole disk as taken to tools that know no GPT (§5.2.3).
func protectiveMBR(last uint64) []byte {
	mbr := make([]byte, sectorSize)
	e := mbr[446:]
	copy(e[1:], []byte{0x00, 0x02, 0x00}) // first sector, as cylinder, head, sector
	e[4] = 0xee
	copy(e[5:], []byte{0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], uint32(min(last, 0xffffffff)))
	mbr[510], mbr[511] = 0x55, 0xaa
	return mbr
}

// mixed is the order in which the table stores a GUID: the first three fields
// little-endian (UEFI specification, appendix A).
func (u uuid) mixed() []byte {
	return []byte{u[3], u[2], u[1], u[0], u[5], u[4], u[7], u[6], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]}
}
