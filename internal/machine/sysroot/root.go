package sysroot

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// luksKind is what probe calls an encrypted partition.
const luksKind = "luks"

// Where the super blocks of the root's file systems say what they are: ext4,
// Documentation/filesystems/ext4/super.rst, and btrfs,
// https://btrfs.readthedocs.io/en/latest/dev/On-disk-format.html. LUKS comes first:
// what it encrypts may look like anything.
var superblocks = []struct {
	kind   string
	offset int64
	magic  []byte
}{
	{luksKind, 0, []byte(luksMagic)},
	{"ext4", 1024 + 0x38, []byte{0x53, 0xef}},
	{"btrfs", 65536 + 64, []byte("_BHRfS_M")},
}

// probe names the file system on a device, or luksKind.
func probe(device string) (string, error) {
	f, err := os.Open(device)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for _, s := range superblocks {
		b := make([]byte, len(s.magic))
		if _, err := f.ReadAt(b, s.offset); err != nil {
			return "", fmt.Errorf("reading the super block of %q: %w", device, err)
		}
		if bytes.Equal(b, s.magic) {
			return s.kind, nil
		}
	}
	return "", fmt.Errorf("%q holds neither ext4 nor btrfs, nor LUKS with one of them in it", device)
}

// mountRoot mounts the root partition, writable: sealing, the merge of /etc and
// /var need that. The running system sees it through a read-only mount.
func mountRoot(device, kind, target string) error {
	return mountFS(kind, target, unix.MOUNT_ATTR_NOATIME, setting{"source", device})
}
