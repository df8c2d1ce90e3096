package esp

import (
	"bytes"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// Limits of what is read of a boot file. Command lines and os-release files
// are a few hundred bytes; the loader itself has no use for more.
const (
	maxSection  = 64 << 10
	maxSections = 96 // also the limit of Windows' loader
)

// imageArgument names, on the kernel's command line, the image to boot.
const imageArgument = "ashlar.image="

// UKI is what a boot file says about itself.
type UKI struct {
	Cmdline   string
	OSRelease map[string]string
	Image     verity.Digest // ashlar.image= on the command line; zero without
}

// ReadUKI reads the command line and os-release of the boot file at path. It
// does not check signatures; the firmware does.
func ReadUKI(path string) (*UKI, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return nil, err
	} else if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is not a regular file", path)
	}
	u, err := readUKI(f)
	if err != nil {
		return nil, fmt.Errorf("reading boot file %q: %w", path, err)
	}
	return u, nil
}

func readUKI(r io.ReaderAt) (*UKI, error) {
	p, err := pe.NewFile(r)
	if err != nil {
		return nil, err
	}
	if len(p.Sections) > maxSections {
		return nil, fmt.Errorf("%d sections, at most %d are read", len(p.Sections), maxSections)
	}
	cmdline, err := section(p, ".cmdline")
	if err != nil {
		return nil, err
	}
	osrel, err := section(p, ".osrel")
	if err != nil {
		return nil, err
	}
	if osrel == nil {
		return nil, errors.New(`no section ".osrel"`)
	}
	u := &UKI{Cmdline: strings.TrimRight(string(cmdline), "\x00\n "), OSRelease: parseOSRelease(osrel)}
	u.Image, err = ImageOf(u.Cmdline)
	if err != nil {
		return nil, fmt.Errorf(`section ".cmdline": %w`, err)
	}
	return u, nil
}

// section returns the content of a section, nil when there is none.
func section(p *pe.File, name string) ([]byte, error) {
	s := p.Section(name)
	if s == nil {
		return nil, nil
	}
	// The size in memory is the real one; the one in the file is rounded up.
	size := s.Size
	if s.VirtualSize < size {
		size = s.VirtualSize
	}
	if size > maxSection {
		return nil, fmt.Errorf("section %q has %d bytes, at most %d are read", name, size, maxSection)
	}
	b := make([]byte, size)
	if n, err := s.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("section %q: %w", name, err)
	}
	return b, nil
}

// ImageOf returns the digest after ashlar.image= on a kernel command line, or
// the zero digest when there is none. Two are an error: whoever reads the
// first and whoever reads the last must not disagree.
func ImageOf(cmdline string) (verity.Digest, error) {
	var d verity.Digest
	found := false
	for _, arg := range strings.Fields(cmdline) {
		value, ok := strings.CutPrefix(arg, imageArgument)
		if !ok {
			continue
		}
		if found {
			return verity.Digest{}, fmt.Errorf("%q stands there twice", imageArgument)
		}
		var err error
		if d, err = verity.Parse(value); err != nil {
			return verity.Digest{}, fmt.Errorf("%q: %w", imageArgument, err)
		}
		found = true
	}
	return d, nil
}

// parseOSRelease reads os-release(5) as the loader does: KEY=VALUE lines, one
// pair of quotes taken off, anything else skipped.
func parseOSRelease(b []byte) map[string]string {
	m := make(map[string]string)
	for line := range bytes.Lines(bytes.TrimRight(b, "\x00")) {
		key, value, ok := strings.Cut(strings.TrimSpace(string(line)), "=")
		if !ok || key == "" || key[0] == '#' {
			continue
		}
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		m[strings.TrimSpace(key)] = value
	}
	return m
}

// sortFields are the sort key and version that the loader takes from an
// os-release file (bootspec_pick_name_version_sort_key in systemd); without a
// title and a sort key it passes the file over.
func sortFields(m map[string]string) (key, version string, ok bool) {
	first := func(names ...string) string {
		for _, n := range names {
			if v := m[n]; v != "" {
				return v
			}
		}
		return ""
	}
	title := first("PRETTY_NAME", "IMAGE_ID", "NAME", "ID")
	key = first("IMAGE_ID", "ID")
	return key, first("IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID"), title != "" && key != ""
}
