package diskimage

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// identity derives the ids of one disk from what is on it, so that building
// twice gives the same bytes.
type identity struct {
	image verity.Digest
	seed  string
}

func (id identity) sum(purpose string) [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "ashlar disk 1\x00%s\x00%s\x00%s", id.image, id.seed, purpose))
}

// uuid returns a version 8 UUID (RFC 9562 §5.8): the version for ids that are
// made by a rule of the application's own.
func (id identity) uuid(purpose string) (u gpt.UUID) {
	sum := id.sum(purpose)
	copy(u[:], sum[:])
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return u
}

// volumeID is the serial number of a FAT file system.
func (id identity) volumeID(purpose string) uint32 {
	sum := id.sum(purpose)
	return binary.BigEndian.Uint32(sum[:])
}
