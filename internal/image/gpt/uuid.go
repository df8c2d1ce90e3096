package gpt

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// UUID is 16 bytes in the order in which they are printed (RFC 9562).
type UUID [16]byte

// Parse reads the usual form, 36 characters, in either case.
func Parse(s string) (u UUID, err error) {
	digits := strings.ReplaceAll(s, "-", "")
	if len(s) == 36 && len(digits) == 32 {
		if _, err := hex.Decode(u[:], []byte(digits)); err == nil && u.String() == strings.ToLower(s) {
			return u, nil
		}
	}
	return UUID{}, fmt.Errorf("%q is not a UUID", s)
}

// MustParse is Parse for constants: it panics on what is not a UUID.
func MustParse(s string) UUID {
	u, err := Parse(s)
	if err != nil {
		panic("gpt: " + err.Error())
	}
	return u
}

// String gives the usual form in lower case.
func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// IsZero reports whether all bytes are zero, as in an unused entry.
func (u UUID) IsZero() bool { return u == UUID{} }

// Mixed is the order in which a partition table and EFI's structures store a
// GUID: the first three fields little-endian (UEFI specification, appendix A).
func (u UUID) Mixed() (m [16]byte) {
	binary.LittleEndian.PutUint32(m[0:], binary.BigEndian.Uint32(u[0:]))
	binary.LittleEndian.PutUint16(m[4:], binary.BigEndian.Uint16(u[4:]))
	binary.LittleEndian.PutUint16(m[6:], binary.BigEndian.Uint16(u[6:]))
	copy(m[8:], u[8:])
	return m
}

// fromMixed is the other way; b has at least 16 bytes. The order is its own inverse.
func fromMixed(b []byte) UUID {
	return UUID(UUID(b[:16]).Mixed())
}
