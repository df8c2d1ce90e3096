package medium

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// Limits of a map.
const (
	MaxMap     = 16 << 20 // bytes of an encoded map
	MaxSize    = 1 << 40  // bytes of an image
	MaxExtent  = 4 << 20  // bytes of one extent
	maxExtents = 1 << 17
)

// Schema is the version of the map's schema that this package writes and reads.
const Schema = 1

// Names of the open regions.
const (
	RegionPapers  = "papers"
	RegionAnswers = "answers"
)

// Map says what a medium holds. What is in no extent and no open region is zero.
type Map struct {
	Schema  int      `json:"schema"`
	Size    int64    `json:"size"`    // bytes of the whole image
	Extents []Extent `json:"extents"` // ascending; the first begins at 0
	Open    []Region `json:"open"`    // papers, answers
}

// Extent is a run of blocks in use, in bytes.
type Extent struct {
	Offset int64  `json:"offset"`
	Length int64  `json:"length"` // whole blocks, at most MaxExtent
	SHA256 Digest `json:"sha256"`
}

// Region is a part of the image that no digest covers, in bytes.
type Region struct {
	Name   string `json:"name"`
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
}

// Digest is a SHA-256, written as 64 lower-case hexadecimal digits.
type Digest [32]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText writes the digest's one spelling.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads it.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) != 2*len(d) || !bytes.Equal(b, bytes.ToLower(b)) {
		return fmt.Errorf("%.80q is not 64 lower-case hexadecimal digits", b)
	}
	if _, err := hex.Decode(d[:], b); err != nil {
		return fmt.Errorf("%.80q is not 64 lower-case hexadecimal digits", b)
	}
	return nil
}

// Data is the number of bytes in use: those of the blob with the blocks.
func (m *Map) Data() int64 {
	var n int64
	for _, e := range m.Extents {
		n += e.Length
	}
	return n
}

// Region returns the open region of that name. Every decoded map has papers and answers.
func (m *Map) Region(name string) Region {
	for _, r := range m.Open {
		if r.Name == name {
			return r
		}
	}
	return Region{}
}

// Encode writes m in its canonical form: one line of JSON, fields in the order of the
// types. It refuses a map that DecodeMap would not take.
func (m *Map) Encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("writing the medium's map: %w", err)
	}
	b, err := m.marshal()
	if err == nil && len(b) > MaxMap {
		err = fmt.Errorf("it has %d bytes, at most %d are allowed", len(b), MaxMap)
	}
	if err != nil {
		return nil, fmt.Errorf("writing the medium's map: %w", err)
	}
	return b, nil
}

func (m *Map) marshal() ([]byte, error) {
	b, err := json.Marshal(m)
	return append(b, '\n'), err
}

// DecodeMap reads a map strictly: the schema this package knows, every value within
// its limits, and the bytes exactly as Encode writes them.
func DecodeMap(b []byte) (*Map, error) {
	m, err := decodeMap(b)
	if err != nil {
		return nil, fmt.Errorf("reading the medium's map: %w", err)
	}
	return m, nil
}

func decodeMap(b []byte) (*Map, error) {
	if len(b) > MaxMap {
		return nil, fmt.Errorf("it has %d bytes, at most %d are allowed", len(b), MaxMap)
	}
	// The schema first: a newer map deserves a better answer than its first new field.
	// This also sees that nothing follows.
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, err
	}
	if head.Schema != Schema {
		return nil, fmt.Errorf("field %q: this is schema %d, and this ashlar reads schema %d only", "schema", head.Schema, Schema)
	}
	var m Map
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	canonical, err := m.marshal()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(b, canonical) {
		return nil, errors.New("it is not in the canonical form")
	}
	return &m, nil
}

// check says which field is wrong, and how.
func (m *Map) check() error {
	if m.Schema != Schema {
		return fmt.Errorf("field %q is %d, want %d", "schema", m.Schema, Schema)
	}
	if m.Size < BlockSize || m.Size > MaxSize || m.Size%BlockSize != 0 {
		return fmt.Errorf("field %q: an image cannot have %d bytes", "size", m.Size)
	}
	if len(m.Extents) == 0 || len(m.Extents) > maxExtents {
		return fmt.Errorf("field %q lists %d extents, want 1 to %d", "extents", len(m.Extents), maxExtents)
	}
	if len(m.Open) != 2 || m.Open[0].Name != RegionPapers || m.Open[1].Name != RegionAnswers {
		return fmt.Errorf("field %q does not list %q and %q", "open", RegionPapers, RegionAnswers)
	}
	if m.Open[0].Length != PapersSize || m.Open[1].Length != AnswersSize {
		return fmt.Errorf("field %q: the regions have %d and %d bytes, want %d and %d",
			"open", m.Open[0].Length, m.Open[1].Length, PapersSize, AnswersSize)
	}
	if m.Extents[0].Offset != 0 {
		return fmt.Errorf("field %q: the first block is not in use, so nothing would boot", "extents")
	}
	return m.checkOrder()
}

// checkOrder sees that extents and regions lie in the image, each list ascending,
// and none over another.
func (m *Map) checkOrder() error {
	var end int64 // of what lies before
	take := func(field string, offset, length, limit int64) error {
		switch {
		case offset%BlockSize != 0 || length%BlockSize != 0 || length <= 0 || length > limit:
			return fmt.Errorf("field %q: %d bytes at %d are not whole blocks, at most %d", field, length, offset, limit)
		case offset < end:
			return fmt.Errorf("field %q: what begins at %d lies over what is before it, or out of order", field, offset)
		case offset > m.Size-length:
			return fmt.Errorf("field %q: %d bytes at %d are outside of the image", field, length, offset)
		}
		end = offset + length
		return nil
	}
	open := m.Open
	for i, e := range m.Extents {
		for len(open) > 0 && open[0].Offset < e.Offset {
			if err := take(fmt.Sprintf("open[%d]", len(m.Open)-len(open)), open[0].Offset, open[0].Length, MaxSize); err != nil {
				return err
			}
			open = open[1:]
		}
		if err := take(fmt.Sprintf("extents[%d]", i), e.Offset, e.Length, MaxExtent); err != nil {
			return err
		}
	}
	for ; len(open) > 0; open = open[1:] {
		if err := take(fmt.Sprintf("open[%d]", len(m.Open)-len(open)), open[0].Offset, open[0].Length, MaxSize); err != nil {
			return err
		}
	}
	return nil
}
