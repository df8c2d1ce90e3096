package esp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// linuxDir is where the loader finds boot files of type 2.
const linuxDir = "EFI/Linux"

// maxEntries is more files than a loader menu could ever show.
const maxEntries = 1024

// ErrExists is what errors.Is finds when an image has a boot file already.
var ErrExists = errors.New("there is a boot file for this image already")

// SpaceError says that a boot file does not fit.
type SpaceError struct {
	Need, Free int64 // bytes
}

func (e *SpaceError) Error() string {
	const mb = 1 << 20
	return fmt.Sprintf("the ESP has %d MB free, the boot file needs %d MB", e.Free/mb, (e.Need+mb-1)/mb)
}

// ESP is a mounted EFI system partition.
type ESP struct {
	Dir string
}

// Open opens the ESP mounted at dir. EFI/Linux is made by the first Commit.
func Open(dir string) (*ESP, error) {
	st, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("opening ESP: %w", err)
	}
	if !st.IsDir() {
		return nil, fmt.Errorf("opening ESP: %q is not a directory", dir)
	}
	return &ESP{Dir: dir}, nil
}

// Path is where the file of an entry is.
func (p *ESP) Path(e Entry) string { return p.file(e.File) }

func (p *ESP) file(name string) string { return filepath.Join(p.Dir, linuxDir, name) }

// Entries lists every *.efi file of EFI/Linux, ours and foreign, in the
// loader's order. A file that cannot be read as a boot file is listed with the
// reason, behind all others, as the loader passes it over.
func (p *ESP) Entries() ([]Entry, error) {
	dir, err := os.Open(filepath.Join(p.Dir, linuxDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing boot entries: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxEntries + 1)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("listing boot entries: %w", err)
	}
	if len(names) > maxEntries {
		return nil, fmt.Errorf("listing boot entries: %q holds more than %d files", dir.Name(), maxEntries)
	}
	var list []Entry
	for _, name := range names {
		if len(name) < len(suffix) || !strings.EqualFold(name[len(name)-len(suffix):], suffix) {
			continue
		}
		list = append(list, p.read(name))
	}
	Sort(list)
	return list, nil
}

func (p *ESP) read(file string) Entry {
	e, ours := parseName(file)
	if !ours {
		e = Entry{File: file, Foreign: true}
		e.Name, e.Left, e.Done = splitCounter(file)
	}
	if len(file) >= 5 && strings.EqualFold(file[:5], "auto-") {
		e.Ignored = `the loader keeps names that begin with "auto-" for itself`
		return e
	}
	u, err := ReadUKI(p.file(file))
	if err != nil {
		e.Ignored = err.Error()
		return e
	}
	var ok bool
	if e.SortKey, e.SortVersion, ok = sortFields(u.OSRelease); !ok {
		e.Ignored = `its section ".osrel" names no system`
	}
	e.Image = u.Image
	if !ours {
		e.Version = e.SortVersion
	} else if u.Image.String()[:digestLen] != e.Digest12 {
		// The loader boots it all the same; whoever plans by names must know.
		e.Foreign = true
	}
	return e
}

// Next returns the entry that boots next.
func (p *ESP) Next() (Entry, bool, error) {
	entries, err := p.Entries()
	if err != nil {
		return Entry{}, false, err
	}
	e, ok := Next(entries)
	return e, ok, nil
}

// Find returns the boot file of image d among entries.
func Find(entries []Entry, d verity.Digest) (Entry, bool) {
	for _, e := range entries {
		if !e.Foreign && e.Image == d && e.Ignored == "" {
			return e, true
		}
	}
	return Entry{}, false
}

// Space is what the ESP has left.
type Space struct {
	Free  int64 `json:"free"`  // bytes
	Total int64 `json:"total"` // bytes
	Block int64 `json:"block"` // bytes that a file's size is rounded up to
}

// Free asks the file system of the ESP.
func (p *ESP) Free() (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(p.Dir, &st); err != nil {
		return Space{}, fmt.Errorf("asking for the free space of the ESP: %w", err)
	}
	return Space{
		Free:  int64(st.Bavail) * int64(st.Bsize),
		Total: int64(st.Blocks) * int64(st.Bsize),
		Block: int64(st.Bsize),
	}, nil
}

// CheckSpace returns a *SpaceError when a boot file of size bytes does not
// fit. Two clusters more are asked for: the directory may have to grow.
func (p *ESP) CheckSpace(size int64) error {
	sp, err := p.Free()
	if err != nil {
		return err
	}
	block := max(sp.Block, 1)
	need := (size+block-1)/block*block + 2*block
	if need > sp.Free {
		return &SpaceError{Need: need, Free: sp.Free}
	}
	return nil
}
