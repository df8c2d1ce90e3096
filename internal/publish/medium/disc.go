package medium

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/program"
)

// volume is the name of the ISO 9660.
const volume = "ASHLAR_MEDIUM"

// readme is what somebody sees who opens the medium's ISO 9660 on a running system.
const readme = `This is the install medium of %s %s, made by Ashlar.

Start a computer from it: it boots under UEFI, from a USB stick and as a CD or DVD.
The system that starts is the one that is installed. Nothing is written to any disk
before you have named the disk and seen what will be done.

    ashlar media verify DEVICE     is this still exactly what was signed?
    ashlar media restore DEVICE    an ordinary empty drive again
`

// xorriso makes the ISO 9660, its El Torito catalogue, and behind them partition 1. It is
// run in the work directory, which is its $HOME too: the startup file of the person who
// builds has no say. (-no_rc would go first, and so must an output that is a pipe.)
//
// The partition begins at a whole MiB: the "cylinders" that are asked for have 64 × 32 sectors
// of 512 bytes. Its number of sectors does not fit the catalogue, where xorriso then writes 0:
// up to the end (UEFI specification 2.10 §13.3.2.1).
var xorriso = []string{
	"xorriso", "-as", "mkisofs", "-quiet", "-o", "-", "-V", volume, "-r", "-no-pad",
	"-partition_cyl_align", "all", "-partition_hd_cyl", "64", "-partition_sec_hd", "32",
	"-append_partition", "1", gpt.TypeESP.String(), espName, "-appended_part_as_gpt",
	"-eltorito-alt-boot", "-e", "--interval:appended_partition_1:all::", "-no-emul-boot",
	isoName,
}

// What begins an ISO 9660 (ECMA-119 §6.2.1, §8.4), in bytes: a system area, where the
// partition table is, and the primary volume descriptor, which says how long the volume is.
const (
	systemArea     = 32 << 10
	discSector     = 2048
	descriptorHead = "\x01CD001"
	volumeSize     = 80 // in the descriptor: sectors, little-endian and then big-endian
)

// cover makes the volume as long as the image. xorriso's ends before the partitions, and
// that is where the firmware of EDK II takes an ESP to end whose length the catalogue
// leaves open (MdeModulePkg, PartitionDxe/ElTorito.c).
func cover(descriptor []byte, image int64) error {
	if !bytes.HasPrefix(descriptor, []byte(descriptorHead)) {
		return errors.New("xorriso's image has no primary volume descriptor")
	}
	sectors := uint32(image / discSector)
	binary.LittleEndian.PutUint32(descriptor[volumeSize:], sectors)
	binary.BigEndian.PutUint32(descriptor[volumeSize+4:], sectors)
	return nil
}

// disc takes what xorriso writes: from the first byte up to the end of partition 1, and
// with the partition table that plan makes from xorriso's instead of that, and a volume that
// covers the image. What xorriso writes behind it, the backup of its table, is dropped.
type disc struct {
	plan  func(theirs *gpt.Table) (*gpt.Table, error)
	begin func(ours *gpt.Table) (*writer, error)
	full  func() // called when partition 1 is there, and w is somebody else's; may be nil

	head  []byte // until there is a table in it
	table *gpt.Table
	w     *writer
	done  bool  // partition 1 is there
	err   error // sticky
}

func (d *disc) Write(p []byte) (int, error) {
	if d.err == nil {
		d.err = d.take(p)
	}
	if d.err != nil {
		return 0, d.err
	}
	return len(p), nil
}

func (d *disc) take(p []byte) error {
	if d.done {
		return nil
	}
	if d.w == nil {
		if d.head = append(d.head, p...); len(d.head) < systemArea+discSector {
			return nil
		}
		theirs, err := gpt.Read(bytes.NewReader(d.head), medium.SectorSize)
		if err != nil {
			return fmt.Errorf("reading xorriso's image: %w", err)
		}
		if d.table, err = d.plan(theirs); err != nil {
			return err
		}
		if d.w, err = d.begin(d.table); err != nil {
			return err
		}
		p, d.head = d.head, nil
		clear(p[:systemArea])
		if err := cover(p[systemArea:], d.table.Size); err != nil {
			return err
		}
	}
	end := d.table.Partitions[0].Start + d.table.Partitions[0].Size
	if _, err := d.w.Write(p[:min(int64(len(p)), end-d.w.end)]); err != nil {
		return err
	}
	if d.done = d.w.end == end; d.done && d.full != nil {
		d.full()
	}
	return nil
}

// run runs xorriso to its end. That comes up to a second after it has written the last
// byte: it looks ten times a second whether its own threads are done.
func (d *disc) run(ctx context.Context, j *job) error {
	if err := j.stageDisc(); err != nil {
		return err
	}
	_, err := program.Run(ctx, program.Command{Dir: j.work, Args: xorriso, Stdout: d, Env: []string{
		"TZ=UTC", "HOME=" + j.work, "SOURCE_DATE_EPOCH=" + strconv.FormatInt(j.epoch.Unix(), 10),
	}})
	switch {
	case d.err != nil:
		return d.err // xorriso only heard that nobody listens any more
	case err != nil:
		return err
	case !d.done:
		return errors.New("xorriso's image ends before the partition that it was given")
	}
	return nil
}

// stageDisc makes what the ISO 9660 holds.
func (j *job) stageDisc() error {
	iso := filepath.Join(j.work, isoName)
	if err := mkdir(iso, 0o755); err != nil {
		return err
	}
	note := filepath.Join(iso, "README.TXT")
	if err := os.WriteFile(note, fmt.Appendf(nil, readme, j.content.Name, j.content.Version), 0o444); err != nil {
		return err
	}
	return errors.Join(os.Chtimes(note, j.epoch, j.epoch), os.Chtimes(iso, j.epoch, j.epoch))
}
