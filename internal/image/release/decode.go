package release

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// Decode reads a document strictly: the schema this package knows, no unknown
// or repeated fields, every value within its limits, and the bytes exactly as
// Encode writes them, so that one release never has two digests.
func Decode(b []byte) (*Document, error) {
	d, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("reading release document: %w", err)
	}
	return d, nil
}

func decode(b []byte) (*Document, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("it has %d bytes, at most %d are allowed", len(b), MaxSize)
	}
	// The schema first: a newer document deserves a better answer than the
	// name of the first field that is new.
	var head struct {
		Schema *int `json:"schema"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, jsonError(b, err)
	}
	switch {
	case head.Schema == nil:
		return nil, errors.New(`field "schema" is missing`)
	case *head.Schema != Schema:
		return nil, fmt.Errorf(`field "schema": this is schema %d, and this ashlar reads schema %d only`, *head.Schema, Schema)
	}

	// Digests are read as text, so that a bad one is named by its field.
	type textImage struct {
		Image
		Digest string `json:"digest"`
	}
	var text struct {
		Document
		Images []textImage `json:"images"`
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&text); err != nil {
		return nil, jsonError(b, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the document")
	}
	d := &text.Document
	for i, t := range text.Images {
		digest, err := verity.Parse(t.Digest)
		if err != nil {
			return nil, fmt.Errorf(`field "images[%d].digest": %w`, i, err)
		}
		t.Image.Digest = digest
		d.Images = append(d.Images, t.Image)
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	canonical, err := d.marshal()
	if err != nil {
		return nil, err
	}
	if line, ok := firstDifference(b, canonical); ok {
		return nil, fmt.Errorf("line %d is not as it is written in the canonical form", line)
	}
	return d, nil
}

// jsonError says where in b the JSON is wrong.
func jsonError(b []byte, err error) error {
	var (
		typeErr *json.UnmarshalTypeError
		syntax  *json.SyntaxError
	)
	switch {
	case errors.As(err, &typeErr) && typeErr.Field != "":
		// Some versions of Go also name the embedded types, which no reader knows.
		path := slices.DeleteFunc(strings.Split(typeErr.Field, "."), func(name string) bool {
			return name == "Document" || name == "Image"
		})
		return fmt.Errorf("field %q holds a JSON %s, which does not fit there", strings.Join(path, "."), typeErr.Value)
	case errors.As(err, &syntax):
		line := 1 + bytes.Count(b[:min(int64(len(b)), syntax.Offset)], []byte{'\n'})
		return fmt.Errorf("line %d: %w", line, err)
	}
	return err
}

// firstDifference returns the line, from 1, in which a first differs from b.
func firstDifference(a, b []byte) (line int, differs bool) {
	if bytes.Equal(a, b) {
		return 0, false
	}
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return 1 + bytes.Count(a[:n], []byte{'\n'}), true
}
