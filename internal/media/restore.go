package media

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/media/drive"
	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// The file systems that [Restore] makes.
const (
	FAT32 = "fat32" // read by everything; a file has less than 4 GiB
	ExFAT = "exfat" // larger files; read by everything that is not old
)

// RestoreOptions say what an ordinary empty drive is.
type RestoreOptions struct {
	Name   string // of the drive, for people
	Sector int64  // bytes of its logical sectors; 0: 512
	System string // FAT32 or ExFAT; "": FAT32
	Label  string // of the file system; "": USB
	Work   string // directory for a sparse file of the drive's size; "": where temporary files are
}

// typeData is what every system takes for a partition with files
// ("Microsoft basic data").
var typeData = gpt.MustParse("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7")

// align is where the partition begins, and what its size is a multiple of: the
// erase blocks of flash are not larger by much.
const align = 1 << 20

// Restore makes an ordinary empty drive of a medium: a partition table with one
// partition, and an empty file system in it. It is written as a medium is: the
// first block last, and everything is read back.
func Restore(ctx context.Context, dev drive.Device, o RestoreOptions, report progress.Reporter) (Written, error) {
	if o.Sector == 0 {
		o.Sector = 512
	}
	if o.System == "" {
		o.System = FAT32
	}
	if o.Label == "" {
		o.Label = "USB"
	}
	size := dev.Size() - 2*align
	size -= size % align
	if size < align {
		return Written{}, fmt.Errorf("%s has %d bytes: no file system fits on it", o.Name, dev.Size())
	}
	dir, err := os.MkdirTemp(o.Work, "ashlar-restore-")
	if err != nil {
		return Written{}, err
	}
	defer os.RemoveAll(dir)
	volume, err := os.Create(filepath.Join(dir, "volume"))
	if err != nil {
		return Written{}, err
	}
	defer volume.Close()
	if err := volume.Truncate(size); err != nil {
		return Written{}, err
	}
	if err := format(ctx, volume.Name(), o, size); err != nil {
		return Written{}, fmt.Errorf("making a file system for %s: %w", o.Name, err)
	}
	pieces, err := piecesOfFile(volume, align)
	if err != nil {
		return Written{}, err
	}
	table, err := emptyTable(dev.Size(), size, o)
	if err != nil {
		return Written{}, err
	}
	var nonce [32]byte
	rand.Read(nonce[:]) // no other write is gone on with
	w := &burn{
		dev: dev, name: o.Name, about: hex.EncodeToString(nonce[:]), report: report,
		pieces: append(pieces, table...),
	}
	return w.run(ctx)
}

func format(ctx context.Context, path string, o RestoreOptions, size int64) error {
	var args []string
	switch o.System {
	case ExFAT:
		args = []string{"mkfs.exfat", "-L", o.Label, path}
	case FAT32:
		args = []string{"mkfs.vfat", "-S", strconv.FormatInt(o.Sector, 10), "-h", strconv.FormatInt(align/o.Sector, 10), "-n", o.Label}
		if size >= 512<<20 { // less is too few clusters for FAT32, and gets the older kind
			args = append(args, "-F", "32")
		}
		args = append(args, path)
	default:
		return fmt.Errorf("no file system is called %q: it is %s or %s", o.System, FAT32, ExFAT)
	}
	_, err := program.Run(ctx, program.Command{Args: args})
	return err
}

// emptyTable is the table at both ends of a drive, with one partition.
func emptyTable(size, part int64, o RestoreOptions) ([]piece, error) {
	var ids [2]gpt.UUID
	for i := range ids {
		rand.Read(ids[i][:])
		ids[i][6], ids[i][8] = ids[i][6]&0x0f|0x40, ids[i][8]&0x3f|0x80 // RFC 9562, version 4
	}
	ends := &twoEnds{size: size, head: make([]byte, headEnd)}
	ends.from = (size - headEnd) &^ (drive.Block - 1)
	ends.tail = make([]byte, size-ends.from)
	table := gpt.Table{Disk: ids[0], Sector: o.Sector, Size: size, Partitions: []gpt.Partition{
		{Type: typeData, ID: ids[1], Name: o.Label, Start: align, Size: part},
	}}
	if err := table.Write(ends); err != nil {
		return nil, err
	}
	return []piece{memoryPiece(0, ends.head), memoryPiece(ends.from, ends.tail)}, nil
}

// twoEnds keeps what is written to the ends of something large.
type twoEnds struct {
	size, from int64
	head, tail []byte
}

func (e *twoEnds) WriteAt(b []byte, off int64) (int, error) {
	switch end := off + int64(len(b)); {
	case end <= int64(len(e.head)):
		return copy(e.head[off:], b), nil
	case off >= e.from && end <= e.size:
		return copy(e.tail[off-e.from:], b), nil
	}
	return 0, fmt.Errorf("bytes %d+%d are in the middle: %w", off, len(b), io.ErrShortWrite)
}

func memoryPiece(off int64, b []byte) piece {
	return piece{offset: off, length: int64(len(b)), sha256: sha256.Sum256(b), read: func(into []byte) error {
		copy(into, b)
		return nil
	}}
}

// piecesOfFile are the parts of a sparse file that are no holes, from off on of a drive.
func piecesOfFile(f *os.File, off int64) ([]piece, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var pieces []piece
	b := make([]byte, maxPiece)
	for at := int64(0); at < st.Size(); {
		data, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return nil, err
		}
		hole, err := f.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		data &^= drive.Block - 1
		hole = min((hole+drive.Block-1)&^(drive.Block-1), st.Size())
		for at = data; at < hole; {
			b := b[:min(maxPiece, hole-at)]
			if _, err := f.ReadAt(b, at); err != nil {
				return nil, err
			}
			pieces = append(pieces, filePiece(f, at, off, b))
			at += int64(len(b))
		}
	}
	return pieces, nil
}

func filePiece(f *os.File, at, off int64, b []byte) piece {
	want := sha256.Sum256(b)
	return piece{offset: off + at, length: int64(len(b)), sha256: want, read: func(into []byte) error {
		_, err := f.ReadAt(into, at)
		return err
	}}
}
