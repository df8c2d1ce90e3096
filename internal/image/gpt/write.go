package gpt

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// Usable is where partitions may lie on a disk of size bytes: from first up to,
// and without, end.
func Usable(size, sector int64) (first, end int64) {
	table := (entryCount*entrySize + sector - 1) / sector * sector
	last := size / sector * sector
	return 2*sector + table, last - sector - table
}

// Write writes the protective MBR, the table and its backup to a disk of t.Size
// bytes. It writes nothing between them. The backup goes first and what makes the
// disk have partitions at all, the primary header, last.
func (t *Table) Write(w io.WriterAt) error {
	if err := checkSector(t.Sector); err != nil {
		return fmt.Errorf("cannot write a partition table to a disk: %w", err)
	}
	entries, err := t.entries()
	if err != nil {
		return err
	}
	tableSectors := uint64(len(entries)) / uint64(t.Sector)
	last := uint64(t.Size/t.Sector) - 1
	for _, part := range []struct {
		lba  uint64
		data []byte
	}{
		{last - tableSectors, entries},
		{last, t.header(entries, last, 1, last-tableSectors)},
		{0, t.protectiveMBR(last)},
		{2, entries},
		{1, t.header(entries, 1, last, 2)},
	} {
		if _, err := w.WriteAt(part.data, int64(part.lba)*t.Sector); err != nil {
			return fmt.Errorf("writing the partition table: %w", err)
		}
	}
	return nil
}

// entries encodes the partitions, padded to whole sectors.
func (t *Table) entries() ([]byte, error) {
	usable, end := Usable(t.Size, t.Sector)
	if len(t.Partitions) > entryCount {
		return nil, fmt.Errorf("a partition table has room for %d partitions, not for %d", entryCount, len(t.Partitions))
	}
	entries := make([]byte, usable-2*t.Sector)
	for i, p := range t.Partitions {
		switch {
		case p.Start%t.Sector != 0 || p.Size%t.Sector != 0:
			return nil, fmt.Errorf("partition %q (%d bytes at %d) is not of whole sectors of %d bytes", p.Name, p.Size, p.Start, t.Sector)
		case p.Start < usable || p.Size <= 0 || p.Size > end-p.Start:
			return nil, fmt.Errorf("partition %q (%d bytes at %d) is outside the disk's usable bytes %d to %d", p.Name, p.Size, p.Start, usable, end)
		}
		for _, q := range t.Partitions[:i] {
			if p.Start < q.Start+q.Size && q.Start < p.Start+p.Size {
				return nil, fmt.Errorf("the partitions %q and %q overlap", q.Name, p.Name)
			}
		}
		name := utf16.Encode([]rune(p.Name))
		if len(name) > nameUnits {
			return nil, fmt.Errorf("partition name %q is longer than %d characters", p.Name, nameUnits)
		}
		e := entries[i*entrySize:]
		kind, id := p.Type.Mixed(), p.ID.Mixed()
		copy(e[0:], kind[:])
		copy(e[16:], id[:])
		binary.LittleEndian.PutUint64(e[32:], uint64(p.Start/t.Sector))
		binary.LittleEndian.PutUint64(e[40:], uint64((p.Start+p.Size)/t.Sector)-1)
		for j, c := range name {
			binary.LittleEndian.PutUint16(e[56+2*j:], c)
		}
	}
	return entries, nil
}

// header encodes the header at sector self; the other one is at other, and its
// entries begin at table.
func (t *Table) header(entries []byte, self, other, table uint64) []byte {
	usable, end := Usable(t.Size, t.Sector)
	h := make([]byte, t.Sector)
	le := binary.LittleEndian
	copy(h, signature)
	le.PutUint32(h[8:], 0x00010000) // revision 1.0
	le.PutUint32(h[12:], headerSize)
	le.PutUint64(h[24:], self)
	le.PutUint64(h[32:], other)
	le.PutUint64(h[40:], uint64(usable/t.Sector))
	le.PutUint64(h[48:], uint64(end/t.Sector)-1)
	disk := t.Disk.Mixed()
	copy(h[56:], disk[:])
	le.PutUint64(h[72:], table)
	le.PutUint32(h[80:], entryCount)
	le.PutUint32(h[84:], entrySize)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(entries[:entryCount*entrySize]))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerSize])) // over a zero in its own place
	return h
}

// protectiveMBR shows the whole disk as taken to tools that know no GPT (§5.2.3).
func (t *Table) protectiveMBR(last uint64) []byte {
	mbr := make([]byte, t.Sector)
	e := mbr[446:]
	copy(e[1:], []byte{0x00, 0x02, 0x00}) // first sector, as cylinder, head, sector
	e[4] = 0xee
	copy(e[5:], []byte{0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], uint32(min(last, 0xffffffff)))
	mbr[510], mbr[511] = 0x55, 0xaa
	return mbr
}
