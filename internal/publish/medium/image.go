package medium

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/progress"
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

// makeImage has xorriso write the image, and takes it as it comes.
func (j *job) makeImage(ctx context.Context, path string) (result *Result, err error) {
	if err := j.stageImage(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var total int64
	for _, name := range []string{espName, payloadName} {
		info, err := os.Stat(filepath.Join(j.work, name))
		if err != nil {
			return nil, err
		}
		total += info.Size()
	}
	j.progress.Stage("writing the install medium", total, progress.Bytes)
	w := newWriter(f, j.table, j.progress)
	_, err = program.Run(ctx, program.Command{Dir: j.work, Args: xorriso, Stdout: w, Env: []string{
		"TZ=UTC", "HOME=" + j.work, "SOURCE_DATE_EPOCH=" + strconv.FormatInt(j.epoch.Unix(), 10),
	}})
	if w.err != nil {
		err = w.err // xorriso only heard that nobody listens any more
	}
	if err != nil {
		return nil, fmt.Errorf("writing the image: %w", err)
	}
	m, blocks, err := w.finish()
	if err != nil {
		return nil, fmt.Errorf("writing the image: %w", err)
	}
	encoded, err := m.Encode()
	if err != nil {
		return nil, err
	}
	return &Result{Map: m, Encoded: encoded, Blocks: blocks, RootHash: j.rootHash}, nil
}

// xorriso is run in the work directory, which is its $HOME too: the startup file of
// the person who builds has no say. (-no_rc would go first, and so must an output that is
// a pipe.) Partitions begin at whole MiB: the "cylinders" that are asked for have 64 × 32
// sectors of 512 bytes. The ESP's number of sectors does not fit the El Torito catalogue,
// where xorriso then writes 0: up to the end (UEFI specification 2.10 §13.3.2.1).
var xorriso = []string{
	"xorriso", "-as", "mkisofs", "-quiet", "-o", "-", "-V", volume, "-r", "-no-pad",
	"-partition_cyl_align", "all", "-partition_hd_cyl", "64", "-partition_sec_hd", "32",
	"-append_partition", "1", gpt.TypeESP.String(), espName,
	"-append_partition", "2", medium.TypePayload.String(), payloadName,
	"-append_partition", "3", medium.TypePapers.String(), papersName,
	"-append_partition", "4", medium.TypeAnswers.String(), answersName,
	"-appended_part_as_gpt", "-eltorito-alt-boot", "-e", "--interval:appended_partition_1:all::", "-no-emul-boot",
	isoName,
}

// stageImage makes the small files that xorriso is given.
func (j *job) stageImage() error {
	iso := filepath.Join(j.work, isoName)
	if err := mkdir(iso, 0o755); err != nil {
		return err
	}
	note := fmt.Appendf(nil, readme, j.content.Name, j.content.Version)
	note0 := filepath.Join(iso, "README.TXT")
	if err := os.WriteFile(note0, note, 0o444); err != nil {
		return err
	}
	for _, path := range []string{note0, iso} {
		if err := os.Chtimes(path, j.epoch, j.epoch); err != nil {
			return err
		}
	}
	for name, size := range map[string]int64{papersName: medium.PapersSize, answersName: medium.AnswersSize} {
		path := filepath.Join(j.work, name)
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			return err
		}
		if err := os.Truncate(path, size); err != nil {
			return err
		}
	}
	return nil
}

// table makes the medium's partition table from xorriso's, which says where it put
// things, and how long the image will be.
func (j *job) table(theirs *gpt.Table, size int64) (*gpt.Table, error) {
	t := &gpt.Table{Disk: j.id.UUID("disk"), Sector: medium.SectorSize, Size: size}
	for _, want := range []struct {
		kind gpt.UUID
		name string
		size int64 // 0: all that xorriso gave it
	}{
		{gpt.TypeESP, medium.LabelESP, 0},
		{medium.TypePayload, medium.LabelPayload, 0},
		{medium.TypePapers, medium.LabelPapers, medium.PapersSize},
		{medium.TypeAnswers, medium.LabelAnswers, medium.AnswersSize},
	} {
		var found *gpt.Partition
		for i := range theirs.Partitions {
			if theirs.Partitions[i].Type == want.kind {
				found = &theirs.Partitions[i]
			}
		}
		if found == nil || found.Start%medium.BlockSize != 0 || found.Size < want.size {
			return nil, fmt.Errorf("xorriso made no proper partition %q", want.name)
		}
		p := gpt.Partition{Type: want.kind, ID: j.id.UUID(want.name), Name: want.name, Start: found.Start, Size: found.Size}
		if want.size != 0 {
			p.Size = want.size
		}
		t.Partitions = append(t.Partitions, p)
	}
	return t, nil
}
