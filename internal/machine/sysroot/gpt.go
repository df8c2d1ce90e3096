package sysroot

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// Partition types (https://uapi-group.org/specifications/specs/discoverable_partitions_specification/).
const (
	typeESP  = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	typeRoot = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709" // root, x86-64
)

// rootLabel is the partition name of Ashlar's root.
const rootLabel = "ashlar-root"

// Limits on a partition table, generous next to the usual 128 entries of 128 bytes.
const (
	gptHeaderSize = 92
	maxGPTEntries = 1024
	maxGPTEntry   = 1024
)

// gptPartition is one used entry of a partition table.
type gptPartition struct {
	number int    // from 1, as in device names
	kind   string // type UUID, lower case
	uuid   string // its own UUID, lower case
	label  string
}

// readGPT reads the primary partition table of a disk whose logical sectors
// have that many bytes. The kernel does not use the backup table either, so
// without a primary one there are no partitions to mount.
func readGPT(r io.ReaderAt, sector int64) ([]gptPartition, error) {
	if sector < 512 || sector > 65536 || sector&(sector-1) != 0 {
		return nil, fmt.Errorf("its sectors have %d bytes", sector)
	}
	h := make([]byte, sector)
	if _, err := r.ReadAt(h, sector); err != nil {
		return nil, fmt.Errorf("reading the partition table: %w", err)
	}
	le := binary.LittleEndian
	if string(h[:8]) != "EFI PART" {
		return nil, fmt.Errorf("it has no GPT")
	}
	size := le.Uint32(h[12:])
	if size < gptHeaderSize || int64(size) > sector {
		return nil, fmt.Errorf("its GPT header says it has %d bytes", size)
	}
	want := le.Uint32(h[16:])
	clear(h[16:20])
	if got := crc32.ChecksumIEEE(h[:size]); got != want {
		return nil, fmt.Errorf("its GPT header has the checksum %08x, want %08x", got, want)
	}
	start, n, entry := le.Uint64(h[72:]), le.Uint32(h[80:]), le.Uint32(h[84:])
	if n > maxGPTEntries || entry < 128 || entry > maxGPTEntry || entry%8 != 0 || start < 2 || start > 1<<40 {
		return nil, fmt.Errorf("its GPT has %d entries of %d bytes at sector %d", n, entry, start)
	}
	table := make([]byte, int(n)*int(entry))
	if _, err := r.ReadAt(table, int64(start)*sector); err != nil {
		return nil, fmt.Errorf("reading the partition table: %w", err)
	}
	if got, want := crc32.ChecksumIEEE(table), le.Uint32(h[88:]); got != want {
		return nil, fmt.Errorf("its GPT entries have the checksum %08x, want %08x", got, want)
	}
	var list []gptPartition
	for i := range int(n) {
		e := table[i*int(entry):][:128]
		if kind := guid(e); kind != "00000000-0000-0000-0000-000000000000" {
			list = append(list, gptPartition{number: i + 1, kind: kind, uuid: guid(e[16:]), label: gptLabel(e[56:128])})
		}
	}
	return list, nil
}

// guid prints a GUID as GPT stores it: the first three fields little-endian.
func guid(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

func gptLabel(b []byte) string {
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
