package medium

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// Places returns where each extent is in the blob of blocks, in bytes: a sum of
// the lengths before it.
func (m *Map) Places() []int64 {
	places := make([]int64, len(m.Extents))
	var at int64
	for i, e := range m.Extents {
		places[i] = at
		at += e.Length
	}
	return places
}

// A MismatchError says which extent is not what the map says.
type MismatchError struct {
	Extent Extent
	Got    Digest
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("the %d bytes at %d of the medium have the sha256 %s, and the map says %s",
		e.Extent.Length, e.Extent.Offset, e.Got, e.Extent.SHA256)
}

// Check compares the content of an extent with the map's digest.
func (e Extent) Check(b []byte) error {
	if got := Digest(sha256.Sum256(b)); got != e.SHA256 {
		return &MismatchError{Extent: e, Got: got}
	}
	return nil
}

// Walk reads the blob of blocks from its beginning, and calls fn with each extent and
// its content, which is checked, and is fn's only until it returns. It fails where the
// blob ends early or goes on after the last extent.
func (m *Map) Walk(ctx context.Context, blocks io.Reader, fn func(e Extent, content []byte) error) error {
	buf := make([]byte, MaxExtent)
	for _, e := range m.Extents {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b := buf[:e.Length]
		if _, err := io.ReadFull(blocks, b); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("reading the medium's block at %d: %w", e.Offset, err)
		}
		if err := e.Check(b); err != nil {
			return err
		}
		if err := fn(e, b); err != nil {
			return err
		}
	}
	if n, err := io.ReadFull(blocks, buf[:1]); n > 0 {
		return errors.New("something follows the medium's last block")
	} else if err != io.EOF {
		return fmt.Errorf("reading the medium's blocks: %w", err)
	}
	return nil
}

// WriteImage writes the blocks to their places in w, which has zeros everywhere else:
// a new file that was made m.Size long.
func (m *Map) WriteImage(ctx context.Context, w io.WriterAt, blocks io.Reader) error {
	return m.Walk(ctx, blocks, func(e Extent, content []byte) error {
		_, err := w.WriteAt(content, e.Offset)
		return err
	})
}
