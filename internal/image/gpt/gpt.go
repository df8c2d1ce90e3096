package gpt

import "fmt"

// Types of partitions: the ESP's from the UEFI specification, root's from the
// Discoverable Partitions Specification
// (https://uapi-group.org/specifications/specs/discoverable_partitions_specification/).
var (
	TypeESP  = MustParse("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
	TypeRoot = MustParse("4f68bce3-e8cd-4db1-96e7-fbcaf984b709") // root, x86-64
	TypeVar  = MustParse("4d21b016-b534-45c2-a9fb-5c16e091fd2d") // /var
)

// Names of Ashlar's partitions (docs/disk.md).
const (
	NameESP  = "ashlar-esp"
	NameRoot = "ashlar-root"
	NameVar  = "ashlar-var"
)

const (
	headerSize = 92
	entrySize  = 128
	entryCount = 128 // the least that the specification allows
	nameUnits  = 36  // UTF-16 code units of a partition's name
)

// Table is a disk's partition table.
type Table struct {
	Disk       UUID
	Sector     int64 // bytes of a logical sector: a power of two from 512 to 65536
	Size       int64 // bytes of the disk; not known to a table that was read
	Partitions []Partition
}

// Partition is one used entry. Start and Size are bytes.
type Partition struct {
	Number      int // from 1, as in device names; Write numbers by itself
	Type, ID    UUID
	Name        string
	Start, Size int64
}

// checkSector refuses what is no size of a sector.
func checkSector(sector int64) error {
	if sector < 512 || sector > 65536 || sector&(sector-1) != 0 {
		return fmt.Errorf("its sectors have %d bytes", sector)
	}
	return nil
}
