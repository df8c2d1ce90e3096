// Package identity derives the ids of what is published, of disks, partitions and
// file systems, from what is on them: building twice gives the same bytes.
package identity

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// Identity is what ids are derived from.
type Identity struct {
	Format string        // what kind of thing it is, with a version: "ashlar disk 1"
	Image  verity.Digest // of the image on it
	Seed   string        // tells two of a kind with one image apart
}

// Sum is SHA-256 over format, image, seed and purpose, with a zero byte between them.
func (id Identity) Sum(purpose string) [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%s", id.Format, id.Image, id.Seed, purpose))
}

// UUID returns a version 8 UUID (RFC 9562 §5.8): the version for ids that are
// made by a rule of the application's own.
func (id Identity) UUID(purpose string) (u gpt.UUID) {
	sum := id.Sum(purpose)
	copy(u[:], sum[:])
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return u
}

// VolumeID is the serial number of a FAT file system.
func (id Identity) VolumeID(purpose string) uint32 {
	sum := id.Sum(purpose)
	return binary.BigEndian.Uint32(sum[:])
}
