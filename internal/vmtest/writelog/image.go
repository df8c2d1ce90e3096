package writelog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Section is a part of the disk, such as a partition.
type Section struct{ At, Length int64 }

// Section reads a part of the disk as the cut left it.
func (r *Replay) Section(s Section) *io.SectionReader { return io.NewSectionReader(r, s.At, s.Length) }

// meets reports whether a range of bytes has some in common with the section.
func (s Section) meets(at, length int64) bool { return at < s.At+s.Length && at+length > s.At }

func (s Section) has(sector uint64) bool {
	at := int64(sector) * SectorSize
	return at >= s.At && at < s.At+s.Length
}

// Key tells whether two cuts left the same of a section: if their keys are the
// same, they did. It holds within one log.
func (r *Replay) Key(s Section) string {
	last := -1 // the last durable entry of the section
	for i := r.done - 1; i >= 0 && last < 0; i-- {
		if e := &r.log.entries[i]; e.sectors > 0 && s.meets(e.at(), e.length()) {
			last = i
		}
	}
	// Of the epoch, what arrived and is not what was there before. It may be millions of
	// sectors: a guest that makes a file system discards all that was there.
	blocks := make([]uint64, 0, len(r.pending))
	for b := range r.pending {
		if s.meets(int64(b)*blockSize, blockSize) {
			blocks = append(blocks, b)
		}
	}
	slices.Sort(blocks)
	h := sha256.New()
	var line [8 * (1 + perBlock)]byte
	for _, b := range blocks {
		some := false
		binary.LittleEndian.PutUint64(line[:], b)
		for i, w := range r.pending[b] {
			if sector := b*perBlock + uint64(i); w != 0 && (!s.has(sector) || r.same(w, r.durable.get(sector))) {
				w = 0
			}
			some = some || w != 0
			binary.LittleEndian.PutUint64(line[8*(1+i):], uint64(w))
		}
		if some {
			h.Write(line[:])
		}
	}
	return fmt.Sprintf("%d %x", last, h.Sum(nil))
}

func (e *entry) at() int64     { return int64(e.sector) * SectorSize }
func (e *entry) length() int64 { return int64(e.sectors) * SectorSize }

// Touched reports whether anything of a section was ever written.
func (r *Replay) Touched(s Section) bool { return r.within(s, r.durable, r.pending) }

// Arrived reports whether anything of a section was written since the last flush,
// and arrived.
func (r *Replay) Arrived(s Section) bool { return r.within(s, r.pending) }

func (r *Replay) within(s Section, layers ...layer) bool {
	for _, l := range layers {
		for b := range l {
			if s.meets(int64(b)*blockSize, blockSize) {
				for i := range uint64(perBlock) {
					if sector := b*perBlock + i; s.has(sector) && l.get(sector) != 0 {
						return true
					}
				}
			}
		}
	}
	return false
}

// same reports whether two writes left the same in a sector.
func (r *Replay) same(a, b ref) bool {
	return a == b || b != 0 && bytes.Equal(r.log.sector(a), r.log.sector(b))
}

// Fingerprint adds to h who wrote what is in a range, in bytes: as long as that is
// the same, so is the content.
func (r *Replay) Fingerprint(h hash.Hash, at, length int64) {
	var line []byte
	for b := uint64(at / blockSize); int64(b*blockSize) < at+length; b++ {
		if !r.touched(b) {
			continue
		}
		line = binary.LittleEndian.AppendUint64(line[:0], b)
		for i := range uint64(perBlock) {
			line = binary.LittleEndian.AppendUint64(line, uint64(r.ref(b*perBlock+i)))
		}
		h.Write(line)
	}
}

// Image is a section of the disk as a file, for programs that need one. It follows
// the replay; what a program does to the file is undone by Restore.
type Image struct {
	file    *os.File
	replay  *Replay
	section Section
}

// NewImage writes the section to a sparse file.
func (r *Replay) NewImage(name string, s Section) (*Image, error) {
	if s.At%SectorSize != 0 || s.Length%SectorSize != 0 {
		return nil, fmt.Errorf("section %d+%d is not of whole sectors", s.At, s.Length)
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	m := &Image{file: f, replay: r, section: s}
	if err := m.Restore(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return m, nil
}

// Restore makes the whole file what the last Seek of the replay made of the disk.
func (m *Image) Restore() error {
	err := errors.Join(m.file.Truncate(0), m.file.Truncate(m.section.Length), copySparse(m.file, m.replay.Section(m.section)))
	if err != nil {
		return fmt.Errorf("writing %q: %w", m.Name(), err)
	}
	return nil
}

func copySparse(w io.WriterAt, r io.Reader) error {
	const piece = 64 << 10
	buf, zeros := make([]byte, piece), make([]byte, piece)
	for at := int64(0); ; at += piece {
		n, err := io.ReadFull(r, buf)
		if n > 0 && !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := w.WriteAt(buf[:n], at); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Name is the file's name.
func (m *Image) Name() string { return m.file.Name() }

// ReadAt reads the file, with what programs did to it.
func (m *Image) ReadAt(p []byte, at int64) (int, error) { return m.file.ReadAt(p, at) }

// Close closes the file, which stays.
func (m *Image) Close() error { return m.file.Close() }

// Follow makes the file what the last Seek of the replay made of the disk, if it
// was what the Seek before that had made of it.
func (m *Image) Follow() error {
	blocks := slices.Sorted(maps.Keys(m.replay.changed))
	const most = 256
	buf := make([]byte, 0, most*blockSize)
	for i := 0; i < len(blocks); {
		n := 1
		for i+n < len(blocks) && n < most && blocks[i+n] == blocks[i]+uint64(n) {
			n++
		}
		from := max(int64(blocks[i])*blockSize, m.section.At)
		to := min(int64(blocks[i]+uint64(n))*blockSize, m.section.At+m.section.Length)
		i += n
		if from >= to {
			continue
		}
		buf = buf[:to-from]
		if _, err := m.replay.ReadAt(buf, from); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err := m.put(buf, from-m.section.At); err != nil {
			return fmt.Errorf("following the replay: %w", err)
		}
	}
	return nil
}

// put writes to the file. Zeros become a hole: a guest that makes a file system discards
// all of the partition first.
func (m *Image) put(b []byte, at int64) error {
	if len(bytes.TrimLeft(b, "\x00")) > 0 {
		_, err := m.file.WriteAt(b, at)
		return err
	}
	return unix.Fallocate(int(m.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, int64(len(b)))
}
