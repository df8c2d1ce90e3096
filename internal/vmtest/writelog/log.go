package writelog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// SectorSize is what a drive writes whole or not at all, and the unit of a log.
const SectorSize = 512

const (
	magic   = 0x006a736677736872
	version = 1

	flagFlush   = 1 << 0
	flagFUA     = 1 << 1
	flagDiscard = 1 << 2
	flagMark    = 1 << 3
	flagAll     = flagFlush | flagFUA | flagDiscard | flagMark
)

// Limits on what a log says, far beyond what a test's machine writes.
const (
	maxEntries = 1 << 24
	maxSector  = 1 << 40
)

// kind is what an entry is. Of a mark nothing is needed but that it is skipped.
type kind uint8

const (
	kindWrite kind = iota
	kindFlush
	kindDiscard
	kindMark
)

// entry is one request to the disk.
type entry struct {
	kind    kind
	fua     bool
	sector  uint64
	sectors uint64
	data    []byte // of a write, in the mapped file
}

// Log is the log of one disk over one or more starts of its machine.
type Log struct {
	entries []entry
	first   []int    // of each file: its first entry
	epochs  []epoch  // see epoch.go
	files   [][]byte // mapped
}

// Open reads logs that follow each other. They stay mapped until Close.
func Open(names ...string) (*Log, error) {
	l := new(Log)
	for _, name := range names {
		if err := l.add(name); err != nil {
			return nil, errors.Join(fmt.Errorf("reading the write log %q: %w", name, err), l.Close())
		}
	}
	l.divide()
	return l, nil
}

// Close unmaps the logs. Nothing of l, nor a Disk made from it, can be used any more.
func (l *Log) Close() (err error) {
	for _, b := range l.files {
		err = errors.Join(err, unix.Munmap(b))
	}
	*l = Log{}
	return err
}

func (l *Log) add(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	l.first = append(l.first, len(l.entries))
	if info.Size() == 0 {
		return nil // the machine was off before it flushed anything
	}
	if info.Size() < SectorSize {
		return fmt.Errorf("it has %d bytes, less than a sector", info.Size())
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("mapping it: %w", err)
	}
	l.files = append(l.files, b)
	entries, err := parse(b)
	l.entries = append(l.entries, entries...)
	return err
}

// parse reads a log. The entries' data is in b.
func parse(b []byte) ([]entry, error) {
	le := binary.LittleEndian
	if len(b) < SectorSize || le.Uint64(b) != magic || le.Uint64(b[8:]) != version {
		return nil, errors.New("it does not begin as a write log does")
	}
	count := le.Uint64(b[16:])
	if size := le.Uint32(b[24:]); size != SectorSize {
		return nil, fmt.Errorf("its sectors have %d bytes, not %d", size, SectorSize)
	}
	// Each entry takes a sector of the file at least.
	if count > maxEntries || count > uint64(len(b)/SectorSize) {
		return nil, fmt.Errorf("it says that it has %d entries, in %d bytes", count, len(b))
	}
	entries := make([]entry, 0, count)
	for at, n := SectorSize, uint64(0); n < count; n++ {
		if len(b)-at < SectorSize {
			return nil, fmt.Errorf("it ends in entry %d of %d", n, count)
		}
		e := entry{sector: le.Uint64(b[at:]), sectors: le.Uint64(b[at+8:])}
		flags, text := le.Uint64(b[at+16:]), le.Uint64(b[at+24:])
		at += SectorSize
		if flags&^flagAll != 0 {
			return nil, fmt.Errorf("entry %d has the flags %#x", n, flags)
		}
		if e.sector > maxSector || e.sectors > maxSector || text > SectorSize {
			return nil, fmt.Errorf("entry %d is of %d sectors from %d, with %d bytes of text", n, e.sectors, e.sector, text)
		}
		switch {
		case flags&flagMark != 0, flags&flagFlush == 0 && e.sectors == 0:
			e.kind = kindMark // a write of nothing is none either
		case flags&flagDiscard != 0:
			e.kind = kindDiscard
		case flags&flagFlush != 0 && e.sectors == 0:
			e.kind = kindFlush
		case flags&flagFlush != 0:
			return nil, fmt.Errorf("entry %d flushes and writes at once, which QEMU does not do", n)
		default:
			e.fua = flags&flagFUA != 0
		}
		if e.kind == kindWrite {
			if e.sectors > uint64((len(b)-at)/SectorSize) {
				return nil, fmt.Errorf("the data of entry %d of %d is cut off", n, count)
			}
			size := int(e.sectors) * SectorSize
			e.data = b[at : at+size : at+size]
			at += size
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// Entries is the number of entries.
func (l *Log) Entries() int { return len(l.entries) }

// Index is the number of entries that were complete when the log of that number,
// from 0, had that many.
func (l *Log) Index(log, entries int) int {
	if log < 0 || log >= len(l.first) {
		return len(l.entries)
	}
	return min(l.first[log]+entries, len(l.entries))
}

// Stats says what is in a log.
type Stats struct{ Writes, Flushes, Discards, Sectors int }

// Stats counts.
func (l *Log) Stats() (s Stats) {
	for i := range l.entries {
		switch e := &l.entries[i]; e.kind {
		case kindWrite:
			s.Writes++
			s.Sectors += int(e.sectors)
		case kindFlush:
			s.Flushes++
		case kindDiscard:
			s.Discards++
		}
	}
	return s
}
