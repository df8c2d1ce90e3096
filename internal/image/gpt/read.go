package gpt

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// signature begins a header.
const signature = "EFI PART"

// Limits on a table, generous next to the usual 128 entries of 128 bytes.
const (
	maxEntries   = 1024
	maxEntrySize = 1024
	maxSector    = 1 << 40 // number of a sector
)

// Read reads the primary partition table of a disk whose logical sectors have
// that many bytes. An entry whose end is before its start is no partition, to the
// kernel neither, and left out.
func Read(r io.ReaderAt, sector int64) (*Table, error) {
	if err := checkSector(sector); err != nil {
		return nil, err
	}
	h := make([]byte, sector)
	if _, err := r.ReadAt(h, sector); err != nil {
		return nil, fmt.Errorf("reading the partition table: %w", err)
	}
	le := binary.LittleEndian
	if string(h[:8]) != signature {
		return nil, fmt.Errorf("it has no GPT")
	}
	size := le.Uint32(h[12:])
	if size < headerSize || int64(size) > sector {
		return nil, fmt.Errorf("its GPT header says it has %d bytes", size)
	}
	want := le.Uint32(h[16:])
	clear(h[16:20])
	if got := crc32.ChecksumIEEE(h[:size]); got != want {
		return nil, fmt.Errorf("its GPT header has the checksum %08x, want %08x", got, want)
	}
	start, n, entry := le.Uint64(h[72:]), le.Uint32(h[80:]), le.Uint32(h[84:])
	if n > maxEntries || entry < entrySize || entry > maxEntrySize || entry%8 != 0 || start < 2 || start > maxSector {
		return nil, fmt.Errorf("its GPT has %d entries of %d bytes at sector %d", n, entry, start)
	}
	entries := make([]byte, int(n)*int(entry))
	if _, err := r.ReadAt(entries, int64(start)*sector); err != nil {
		return nil, fmt.Errorf("reading the partition table: %w", err)
	}
	if got, want := crc32.ChecksumIEEE(entries), le.Uint32(h[88:]); got != want {
		return nil, fmt.Errorf("its GPT entries have the checksum %08x, want %08x", got, want)
	}
	t := &Table{Disk: fromMixed(h[56:]), Sector: sector}
	for i := range int(n) {
		e := entries[i*int(entry):][:entrySize]
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		kind := fromMixed(e)
		if kind.IsZero() || last < first || last > maxSector {
			continue
		}
		t.Partitions = append(t.Partitions, Partition{
			Number: i + 1, Type: kind, ID: fromMixed(e[16:]), Name: decodeName(e[56:]),
			Start: int64(first) * sector, Size: int64(last-first+1) * sector,
		})
	}
	return t, nil
}

// decodeName reads a name that ends at a zero or with the entry.
func decodeName(b []byte) string {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}
