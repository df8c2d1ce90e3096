package verity

import (
	"encoding/hex"
	"fmt"
)

// Size is the length of a digest in bytes.
const Size = 32

// Digest is an fs-verity file digest: sha256, 4096-byte blocks, no salt.
type Digest [Size]byte

// String returns the 64 lower-case hexadecimal digits of d.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short returns the first twelve hexadecimal digits, for people and file names.
func (d Digest) Short() string { return d.String()[:12] }

// IsZero reports whether d is unset.
func (d Digest) IsZero() bool { return d == Digest{} }

// Parse reads the 64 lower-case hexadecimal digits that String writes.
func Parse(s string) (Digest, error) {
	var d Digest
	if len(s) != 2*Size {
		return d, fmt.Errorf("digest %q has %d characters, want %d", s, len(s), 2*Size)
	}
	for i := range s {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return Digest{}, fmt.Errorf("digest %q is not lower-case hexadecimal", s)
		}
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("digest %q: %w", s, err)
	}
	return d, nil
}

// MarshalText writes the digest as String does.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (d *Digest) UnmarshalText(b []byte) (err error) {
	*d, err = Parse(string(b))
	return err
}
