package release

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// MaxSize is the most bytes an encoded document may have. The ids of some
// thousands of users are the only part of it that grows.
const MaxSize = 1 << 20

// Encode writes d in its canonical form, the one that is signed: fields in the
// order of the type, map keys sorted, two spaces a level, a newline at the
// end. It refuses a document that Decode would not take.
func (d *Document) Encode() ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("writing release document: %w", err)
	}
	b, err := d.marshal()
	if err != nil {
		return nil, fmt.Errorf("writing release document: %w", err)
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("writing release document: it has %d bytes, at most %d are allowed", len(b), MaxSize)
	}
	return b, nil
}

func (d *Document) marshal() ([]byte, error) {
	c := *d
	if c.Users == nil {
		c.Users = map[string]uint32{}
	}
	if c.Groups == nil {
		c.Groups = map[string]uint32{}
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(&c); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
