// Package limited reads what comes from outside, whole, up to a limit.
package limited

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// ErrTooLong says that there is more than the limit.
var ErrTooLong = errors.New("it is too long")

// All reads r to its end, which must come within limit bytes.
func All(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: at most %d bytes are allowed", ErrTooLong, limit)
	}
	return b, nil
}

// File reads a regular file of at most limit bytes. It does not wait on a pipe that
// somebody left under that name.
func File(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is not a regular file", path)
	}
	b, err := All(f, limit)
	if errors.Is(err, ErrTooLong) {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return b, err
}
