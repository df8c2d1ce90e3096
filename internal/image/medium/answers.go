package medium

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// EncodeAnswers writes the answers of an unattended installation, a TOML text, as they
// stand in their region: padded with zeros to AnswersSize.
func EncodeAnswers(text []byte) ([]byte, error) {
	switch {
	case len(text) > AnswersSize:
		return nil, fmt.Errorf("writing the medium's answers: they have %d bytes, and a medium has room for %d", len(text), AnswersSize)
	case bytes.IndexByte(text, 0) >= 0:
		return nil, errors.New("writing the medium's answers: they are no text: there is a zero byte in them")
	}
	return append(bytes.Clone(text), make([]byte, AnswersSize-len(text))...), nil
}

// ReadAnswers reads the text from its region. A region of zeros gives ErrBlank. Nobody
// signed what it holds: it is there because whoever wrote the medium put it there.
func ReadAnswers(r io.Reader) ([]byte, error) {
	b, err := readRegion(r, AnswersSize)
	if errors.Is(err, ErrBlank) {
		return nil, fmt.Errorf("the medium's answers: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the medium's answers: %w", err)
	}
	text := bytes.TrimRight(b, "\x00")
	if bytes.IndexByte(text, 0) >= 0 {
		return nil, errors.New("reading the medium's answers: something follows the text")
	}
	return text, nil
}

// readRegion reads exactly size bytes.
func readRegion(r io.Reader, size int) ([]byte, error) {
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	if zero(b) {
		return nil, ErrBlank
	}
	return b, nil
}
