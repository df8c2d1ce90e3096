package crashtest

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"
)

// typeESP is the type of an EFI system partition, as it is on a disk.
const typeESP = "\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b"

// ESPs are the EFI system partitions that firmware finds on a disk of size bytes, with
// sectors of 512: by the primary table, or where that is not whole by its backup at
// the end (UEFI specification 2.10, §5.3.2).
func (m Image) ESPs(size int64) []Section {
	list, ok := m.table(1)
	if !ok {
		list, _ = m.table(uint64(size/sectorSize) - 1)
	}
	return list
}

// table reads the partition table whose header is in a sector; false where it is
// not whole.
func (m Image) table(sector uint64) (list []Section, ok bool) {
	le := binary.LittleEndian
	h := m.read(int64(sector)*sectorSize, sectorSize)
	if string(h[:8]) != "EFI PART" || le.Uint32(h[12:]) != 92 || le.Uint64(h[24:]) != sector {
		return nil, false
	}
	sum, entries, n, each := le.Uint32(h[16:]), le.Uint64(h[72:]), int(le.Uint32(h[80:])), int(le.Uint32(h[84:]))
	clear(h[16:20])
	if crc32.ChecksumIEEE(h[:92]) != sum || n > 256 || each != 128 {
		return nil, false
	}
	b := m.read(int64(entries)*sectorSize, n*each)
	if crc32.ChecksumIEEE(b) != le.Uint32(h[88:]) {
		return nil, false
	}
	for e := range slices.Chunk(b, each) {
		if string(e[:16]) == typeESP {
			first, last := int64(le.Uint64(e[32:])), int64(le.Uint64(e[40:]))
			list = append(list, Section{first * sectorSize, (last + 1 - first) * sectorSize})
		}
	}
	return list, true
}

// Find looks a file up as a driver does that reads as far as it can: a directory's
// first cluster is read whatever the table says of it. It is nil where there is no
// such name, or no file system.
func (m Image) Find(name string) *File {
	g, err := readGeometry(m)
	if err != nil {
		return nil
	}
	found := &File{Dir: true, First: g.root}
	for part := range strings.SplitSeq(name, "/") {
		if !found.Dir {
			return nil
		}
		clusters, _ := m.chain(g, found.First, -1)
		list := m.entries(g, clusters)
		i := slices.IndexFunc(list, func(f File) bool { return strings.EqualFold(f.Name, part) })
		if i < 0 {
			return nil
		}
		found = &list[i]
	}
	m.load(g, found)
	return found
}
