package sysroot

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
)

// luksMagic begins a LUKS header, of either version
// (https://gitlab.com/cryptsetup/LUKS2-docs, "LUKS2 On-Disk Format Specification").
const luksMagic = "LUKS\xba\xbe"

// Limits on a LUKS2 header: those of the format, and what a machine can be asked
// to spend on one try.
const (
	minLUKSHeader  = 16 << 10
	maxLUKSHeader  = 4 << 20
	luksBinary     = 4096    // bytes before the JSON text
	maxLUKSMemory  = 4 << 20 // KiB that argon2 may take, cryptsetup's own limit
	maxLUKSTime    = 1000    // passes over that memory
	maxLUKSRounds  = 1 << 30 // iterations of PBKDF2
	maxLUKSSegment = 1 << 62 // bytes
	luksCipher     = "aes-xts-plain64"
)

// luksHeader is what is looked at of the JSON text, before luks.go works with it.
type luksHeader struct {
	Keyslots map[int]luksSlot    `json:"keyslots"`
	Segments map[int]luksSegment `json:"segments"`
	Digests  map[int]luksDigest  `json:"digests"`
	Config   struct {
		Requirements json.RawMessage `json:"requirements"`
	} `json:"config"`
}

type luksSlot struct {
	Type    string `json:"type"`
	KeySize int    `json:"key_size"`
	AF      struct {
		Type    string `json:"type"`
		Stripes int    `json:"stripes"`
		Hash    string `json:"hash"`
	} `json:"af"`
	Area struct {
		Type       string      `json:"type"`
		Encryption string      `json:"encryption"`
		KeySize    int         `json:"key_size"`
		Offset     json.Number `json:"offset"`
		Size       json.Number `json:"size"`
	} `json:"area"`
	KDF struct {
		Type       string `json:"type"`
		Hash       string `json:"hash"`
		Iterations int64  `json:"iterations"`
		Time       int64  `json:"time"`
		Memory     int64  `json:"memory"` // KiB
		CPUs       int    `json:"cpus"`
	} `json:"kdf"`
}

type luksSegment struct {
	Type       string          `json:"type"`
	Offset     json.Number     `json:"offset"`
	IVTweak    json.Number     `json:"iv_tweak"`
	Size       string          `json:"size"`
	Encryption string          `json:"encryption"`
	SectorSize int             `json:"sector_size"`
	Integrity  json.RawMessage `json:"integrity"`
	Flags      []string        `json:"flags"`
}

type luksDigest struct {
	Type       string `json:"type"`
	Hash       string `json:"hash"`
	Iterations int64  `json:"iterations"`
	Digest     string `json:"digest"`
}

// readLUKS reads the primary header and refuses what Ashlar does not make.
//
// Nobody signed this header, and who has had the disk in his hands may have
// changed it. A data segment that says "cipher_null" would still accept the
// passphrase, and everything that is written afterwards would lie there for all to
// read; a key slot that asks for more memory than there is would end the boot in
// a way nobody understands. So this is a list of what is right, not of what is wrong.
func readLUKS(r io.ReaderAt) (*luksHeader, error) {
	fixed := make([]byte, luksBinary)
	if _, err := r.ReadAt(fixed, 0); err != nil {
		return nil, fmt.Errorf("reading the LUKS header: %w", err)
	}
	if !bytes.HasPrefix(fixed, []byte(luksMagic)) {
		return nil, fmt.Errorf("it has no LUKS header")
	}
	if v := binary.BigEndian.Uint16(fixed[6:]); v != 2 {
		return nil, fmt.Errorf("its LUKS header has version %d, want 2", v)
	}
	size := binary.BigEndian.Uint64(fixed[8:])
	if size < minLUKSHeader || size > maxLUKSHeader || size&(size-1) != 0 {
		return nil, fmt.Errorf("its LUKS header says it has %d bytes", size)
	}
	text := make([]byte, size-luksBinary)
	if _, err := r.ReadAt(text, luksBinary); err != nil {
		return nil, fmt.Errorf("reading the LUKS header: %w", err)
	}
	text, _, _ = bytes.Cut(text, []byte{0})
	h := &luksHeader{}
	if err := json.Unmarshal(text, h); err != nil {
		return nil, fmt.Errorf("its LUKS header: %w", err)
	}
	if err := h.check(int64(size)); err != nil {
		return nil, fmt.Errorf("its LUKS header: %w", err)
	}
	return h, nil
}

func (h *luksHeader) check(size int64) error {
	if r := string(h.Config.Requirements); r != "" && r != "[]" && r != "{}" && r != `{"mandatory":[]}` {
		return fmt.Errorf("it requires %.80s, which is not known here", r)
	}
	if len(h.Segments) != 1 || len(h.Keyslots) == 0 || len(h.Keyslots) > 32 || len(h.Digests) == 0 || len(h.Digests) > 32 {
		return fmt.Errorf("it has %d segments, %d key slots and %d digests", len(h.Segments), len(h.Keyslots), len(h.Digests))
	}
	for id, s := range h.Segments {
		if err := s.check(size); err != nil {
			return fmt.Errorf("segment %d: %w", id, err)
		}
	}
	for id, s := range h.Keyslots {
		if err := s.check(); err != nil {
			return fmt.Errorf("key slot %d: %w", id, err)
		}
	}
	for id, d := range h.Digests {
		if err := d.check(); err != nil {
			return fmt.Errorf("digest %d: %w", id, err)
		}
	}
	return nil
}

func (s *luksSegment) check(header int64) error {
	offset, err := s.Offset.Int64()
	switch {
	case s.Type != "crypt" || s.Encryption != luksCipher:
		return fmt.Errorf("it is %.40q with the cipher %.40q, want %q", s.Type, s.Encryption, luksCipher)
	case len(s.Integrity) > 0:
		return fmt.Errorf("it has an integrity profile")
	case len(s.Flags) > 0:
		return fmt.Errorf("it has flags")
	case s.IVTweak != "0" || s.Size != "dynamic":
		return fmt.Errorf("it is not the whole partition: iv_tweak %.40q, size %.40q", s.IVTweak, s.Size)
	case !slices.Contains([]int{512, 1024, 2048, 4096}, s.SectorSize):
		return fmt.Errorf("its sectors have %d bytes", s.SectorSize)
	case err != nil || offset < 2*header || offset > maxLUKSSegment || offset%4096 != 0:
		return fmt.Errorf("it begins at %.40q", s.Offset)
	}
	return nil
}

func (s *luksSlot) check() error {
	k := s.KDF
	good := func(bytes int) bool { return bytes == 32 || bytes == 64 }
	offset, offsetErr := s.Area.Offset.Int64()
	size, sizeErr := s.Area.Size.Int64()
	switch {
	case s.Type != "luks2" || !good(s.KeySize):
		return fmt.Errorf("it is %.40q with a key of %d bytes", s.Type, s.KeySize)
	case s.AF.Type != "luks1" || s.AF.Stripes != 4000 || hashSize(s.AF.Hash) == 0:
		return fmt.Errorf("its key is split as %.40q, with %d stripes and %.40q", s.AF.Type, s.AF.Stripes, s.AF.Hash)
	case s.Area.Type != "raw" || s.Area.Encryption != luksCipher || !good(s.Area.KeySize):
		return fmt.Errorf("its area is %.40q with the cipher %.40q, want %q", s.Area.Type, s.Area.Encryption, luksCipher)
	case offsetErr != nil || sizeErr != nil || offset < 0 || size < 0 || offset > 1<<40 || size > 1<<30:
		return fmt.Errorf("its area has %.40q bytes at %.40q", s.Area.Size, s.Area.Offset)
	case k.Type == "argon2i" || k.Type == "argon2id":
		if k.Time < 1 || k.Time > maxLUKSTime || k.Memory < 8 || k.Memory > maxLUKSMemory || k.CPUs < 1 || k.CPUs > 255 {
			return fmt.Errorf("%s with time %d, %d KiB of memory and %d threads", k.Type, k.Time, k.Memory, k.CPUs)
		}
	case k.Type == "pbkdf2":
		if k.Iterations < 1 || k.Iterations > maxLUKSRounds || hashSize(k.Hash) == 0 {
			return fmt.Errorf("pbkdf2 with %d iterations of %.40q", k.Iterations, k.Hash)
		}
	default:
		return fmt.Errorf("it derives its key with %.40q", k.Type)
	}
	return nil
}

func (d *luksDigest) check() error {
	b, err := base64.StdEncoding.DecodeString(d.Digest)
	if d.Type != "pbkdf2" || d.Iterations < 1 || d.Iterations > maxLUKSRounds || err != nil || len(b) < 20 || len(b) > hashSize(d.Hash) {
		return fmt.Errorf("it is %.40q with %d iterations of %.40q and %d bytes", d.Type, d.Iterations, d.Hash, len(b))
	}
	return nil
}

// hashSize is the size of a hash that is good here, in bytes, and 0 for others.
func hashSize(name string) int {
	switch name {
	case "sha256":
		return 32
	case "sha512":
		return 64
	}
	return 0
}

// affordable lists the key slots that can be tried with so much memory, in KiB, and how
// much the cheapest of the others would take.
func (h *luksHeader) affordable(memory int64) (slots []int, otherwise int64) {
	for id, s := range h.Keyslots {
		if s.KDF.Memory <= memory {
			slots = append(slots, id)
		} else if otherwise == 0 || s.KDF.Memory < otherwise {
			otherwise = s.KDF.Memory
		}
	}
	slices.Sort(slots)
	return slots, otherwise
}
