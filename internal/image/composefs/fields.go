package composefs

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// parseMode reads a mode. Of a hard link's only the file type matters.
func parseMode(b []byte, isLink bool) (uint32, error) {
	mode, err := parseUint(b, 8, 32)
	if err != nil {
		return 0, err
	}
	if entryKinds[mode>>12&15] == 0 {
		return 0, fmt.Errorf("%q has no known file type", b)
	}
	if mode > 0xffff && !isLink {
		return 0, fmt.Errorf("%q has more than 16 bits", b)
	}
	return uint32(mode), nil
}

func parseUint(b []byte, base, bits int) (uint64, error) {
	v, err := strconv.ParseUint(string(b), base, bits)
	if err != nil {
		if errors.Is(err, strconv.ErrRange) {
			return 0, fmt.Errorf("%.40q is too large", b)
		}
		return 0, fmt.Errorf("%.40q is not a number in base %d", b, base)
	}
	return v, nil
}

// parseTime reads SECONDS.NANOSECONDS, where seconds may be negative.
func parseTime(b []byte) (t tree.Time, err error) {
	sec, nsec, _ := bytes.Cut(b, []byte{'.'})
	if t.Sec, err = strconv.ParseInt(string(sec), 10, 64); err != nil || bytes.HasPrefix(sec, []byte{'+'}) {
		return t, fmt.Errorf("%.40q is not a time in seconds and nanoseconds", b)
	}
	v, err := strconv.ParseUint(string(nsec), 10, 32)
	if err != nil || v >= 1e9 {
		return t, fmt.Errorf("%.40q is not a time in seconds and nanoseconds", b)
	}
	t.Nsec = uint32(v)
	return t, nil
}

func parseDigest(b []byte) (verity.Digest, error) {
	s, ok, err := unescapeOptional(b)
	if err != nil || !ok {
		return verity.Digest{}, err
	}
	d, err := verity.Parse(strings.ToLower(s))
	if err == nil && d.IsZero() {
		return d, errors.New("it is all zero")
	}
	return d, err
}
