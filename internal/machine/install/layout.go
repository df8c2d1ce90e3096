package install

import (
	"crypto/rand"
	"fmt"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
)

// Sizes, in bytes.
const (
	mib = int64(1) << 20
	gib = int64(1) << 30

	espSize   = gib      // room for the boot files of three deployments, and for those of years to come
	alignment = mib      // of partitions
	reserve   = 64 * mib // what an update leaves free in the store
	journal   = 64 * mib
)

// Partition is one that the disk will have.
type Partition struct {
	Number     int    `json:"number"`
	Name       string `json:"name"`
	Start      int64  `json:"start"` // bytes
	Size       int64  `json:"size"`  // bytes
	FileSystem string `json:"file_system"`
	Encrypted  bool   `json:"encrypted"`
	Kept       bool   `json:"kept"` // its content stays, but for the system

	entry gpt.Partition
}

// need is what a release takes in its partitions: content is that of its objects
// and of its image, uki the length of its boot file.
type need struct {
	content, objects, uki int64
}

// root is the least that a root partition has, with room for hash trees, metadata
// and the journal, and for the image a second time while it is staged.
func (n need) root() int64 {
	return n.content + n.content/50 + n.objects*8192 + n.uki + journal + reserve + 256*mib
}

// divide plans a disk anew: ESP and root.
func divide(d *Disk, n need, encrypted bool) ([]Partition, error) {
	if espSize < 3*n.uki+32*mib {
		return nil, fmt.Errorf("the release's boot file has %d MB, and an ESP of %d MB has to hold three", n.uki/1e6, espSize/1_000_000)
	}
	_, end := gpt.Usable(d.Size, d.Sector)
	start := alignment + espSize
	size := (end - start) / alignment * alignment
	if size < n.root() {
		return nil, fmt.Errorf("the disk %s has %d MB, and this release needs %d MB", d.Path, d.Size/1e6, (start+n.root()+alignment)/1e6)
	}
	parts := []Partition{
		{Number: 1, Name: gpt.NameESP, Start: alignment, Size: espSize, FileSystem: "fat32"},
		{Number: 2, Name: gpt.NameRoot, Start: start, Size: size, FileSystem: "ext4", Encrypted: encrypted},
	}
	for i, kind := range []gpt.UUID{gpt.TypeESP, gpt.TypeRoot} {
		parts[i].entry = gpt.Partition{Type: kind, ID: newUUID(), Name: parts[i].Name, Start: parts[i].Start, Size: parts[i].Size}
	}
	return parts, nil
}

// keep plans with the partitions that an installed Ashlar has.
func keep(d *Disk, n need, encrypted bool) ([]Partition, error) {
	esp, root, ok := FindAshlar(d.Path, d.Sector)
	if !ok {
		return nil, fmt.Errorf("the disk %s has no Ashlar whose /var could be kept", d.Path)
	}
	if esp.Size < 3*n.uki+32*mib {
		return nil, fmt.Errorf("the ESP of %s has %d MB, too few for three boot files of %d MB; start over without %q", d.Path, esp.Size/1e6, n.uki/1e6, "disk.keep_var")
	}
	if root.Size < n.root() {
		return nil, fmt.Errorf("the root partition of %s has %d MB, and this release needs %d MB", d.Path, root.Size/1e6, n.root()/1e6)
	}
	return []Partition{
		{Number: esp.Number, Name: esp.Name, Start: esp.Start, Size: esp.Size, FileSystem: "fat32", entry: esp},
		{Number: root.Number, Name: root.Name, Start: root.Start, Size: root.Size, FileSystem: "ext4", Encrypted: encrypted, Kept: true, entry: root},
	}, nil
}

// newUUID is a random one (RFC 9562, version 4).
func newUUID() (u gpt.UUID) {
	_, _ = rand.Read(u[:]) // never fails
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}
