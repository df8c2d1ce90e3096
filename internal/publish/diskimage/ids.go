package diskimage

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// uuid is 16 bytes in the order in which they are printed (RFC 9562).
type uuid [16]byte

func (u uuid) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// parseUUID is for constants: it panics on what is not a UUID.
func parseUUID(s string) (u uuid) {
	var a uint32
	var b, c, d uint16
	var e uint64
	if n, err := fmt.Sscanf(s, "%08x-%04x-%04x-%04x-%012x", &a, &b, &c, &d, &e); n != 5 || err != nil {
		panic("diskimage: not a UUID: " + s)
	}
	binary.BigEndian.PutUint64(u[8:], e)
	binary.BigEndian.PutUint32(u[0:], a)
	binary.BigEndian.PutUint16(u[4:], b)
	binary.BigEndian.PutUint16(u[6:], c)
	binary.BigEndian.PutUint16(u[8:], d)
	return u
}

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
func (id identity) uuid(purpose string) (u uuid) {
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
