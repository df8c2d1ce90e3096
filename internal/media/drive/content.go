package drive

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
)

// A signature tells what is on a drive or partition by a few bytes at a fixed
// place. The offsets are those that the file systems' own documentation gives.
type signature struct {
	offset int64
	magic  string
	name   string
	label  func(at func(off int64, n int) []byte) string // nil: it has none
}

var signatures = []signature{
	{0, "LUKS\xba\xbe", "LUKS encryption", nil},
	{0, "XFSB", "XFS", text(108, 12)},
	{3, "EXFAT   ", "exFAT", nil},
	{3, "NTFS    ", "NTFS", nil},
	{3, "-FVE-FS-", "BitLocker encryption", nil},
	{82, "FAT32   ", "FAT32", text(71, 11)},
	{54, "FAT1", "FAT16", text(43, 11)},
	{512, "LABELONE", "LVM", nil},
	{1024, "\xe2\xe1\xf5\xe0", "EROFS", text(1024+64, 16)},
	{1024 + 56, "\x53\xef", "ext4", text(1024+120, 16)}, // ext2 and ext3 as well
	{4086, "SWAPSPACE2", "swap", text(1052, 16)},
	{4096, "\xfc\x4e\x2b\xa9", "RAID", nil}, // md, version 1.2
	{32769, "CD001", "ISO 9660", text(32808, 32)},
	{65536 + 64, "_BHRfS_M", "btrfs", text(65536+299, 256)},
}

func text(off int64, n int) func(func(int64, int) []byte) string {
	return func(at func(int64, int) []byte) string {
		b := at(off, n)
		if i := bytes.IndexByte(b, 0); i >= 0 {
			b = b[:i]
		}
		label := strings.TrimSpace(string(b))
		if label == "NO NAME" { // FAT's word for none
			return ""
		}
		return label
	}
}

// describeVolume says what a part of a drive holds: a file system and its label.
func describeVolume(r io.ReaderAt, start, size int64) string {
	at := func(off int64, n int) []byte {
		b := make([]byte, n)
		if off+int64(n) > size {
			return b
		}
		if _, err := r.ReadAt(b, start+off); err != nil {
			clear(b)
		}
		return b
	}
	for _, s := range signatures {
		if string(at(s.offset, len(s.magic))) != s.magic {
			continue
		}
		if s.label != nil {
			if label := s.label(at); label != "" {
				return fmt.Sprintf("%s %q", s.name, label)
			}
		}
		return s.name
	}
	return ""
}

// describe says what a whole drive holds, and the names of the parts in its
// partition table by their place.
func describe(r io.ReaderAt, size int64) (string, map[int64]string) {
	volume := describeVolume(r, 0, size)
	labels := readLabels(r)
	switch {
	case slices.Contains(slices.Collect(maps.Values(labels)), labelPapers):
		return "an Ashlar medium", labels
	case len(labels) > 0 && strings.HasPrefix(volume, "ISO"):
		return volume, labels
	case len(labels) == 1:
		return "a partition table with one partition", labels
	case len(labels) > 0:
		return fmt.Sprintf("a partition table with %d partitions", len(labels)), labels
	case volume != "":
		return volume, nil
	}
	head := make([]byte, 64<<10)
	if n, err := r.ReadAt(head, 0); err != nil && err != io.EOF || n < sector {
		return "", nil
	}
	switch {
	case string(head[510:512]) == "\x55\xaa":
		return "a partition table of the old kind (MBR)", nil
	case len(bytes.Trim(head, "\x00")) == 0 || len(bytes.Trim(head, "\xff")) == 0:
		return Nothing, nil
	}
	return "data of an unknown kind", nil
}

// Nothing is the content of a drive on which nothing is that is known.
const Nothing = "nothing that is known"

// labelPapers is the name of the partition that only media have.
const labelPapers = "ashlar-papers"

// readLabels reads the names in a GPT. A drive's sectors have 512 bytes, or else 4096.
func readLabels(r io.ReaderAt) map[int64]string {
	for _, sector := range []int64{512, 4096} {
		table, err := gpt.Read(r, sector)
		if err != nil {
			continue
		}
		labels := map[int64]string{}
		for _, p := range table.Partitions {
			labels[p.Start] = p.Name
		}
		return labels
	}
	return nil
}
