package medium

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// makeImage puts the image together, from what xorriso writes and the payload, and
// stores its blocks at path.
func (j *job) makeImage(ctx context.Context, path string) (result *Result, err error) {
	payload, err := os.Open(j.payload())
	if err != nil {
		return nil, err
	}
	defer payload.Close()
	info, err := payload.Stat()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	full := make(chan struct{})
	d := &disc{
		full: func() { close(full) },
		plan: func(theirs *gpt.Table) (*gpt.Table, error) { return j.table(theirs, info.Size()) },
		begin: func(ours *gpt.Table) (*writer, error) {
			j.progress.Stage("writing the install medium", ours.Size, progress.Bytes)
			return newWriter(f, ours, j.progress)
		},
	}
	defer func() {
		if d.w != nil {
			_ = d.w.wait() // before the file is closed; where it matters, it was asked already
		}
	}()
	var m *medium.Map
	var blocks medium.Digest
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.run(ctx, j) })
	group.Go(func() (err error) {
		select {
		case <-full:
			m, blocks, err = d.rest(ctx, payload)
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("writing the image: %w", err)
	}
	encoded, err := m.Encode()
	if err != nil {
		return nil, err
	}
	return &Result{Map: m, Encoded: encoded, Blocks: blocks}, nil
}

// rest writes what follows partition 1.
func (d *disc) rest(ctx context.Context, payload *os.File) (*medium.Map, medium.Digest, error) {
	if err := d.w.zeroTo(d.table.Partitions[1].Start); err != nil {
		return nil, medium.Digest{}, err
	}
	if _, err := d.w.ReadFrom(&stoppable{ctx, payload}); err != nil {
		return nil, medium.Digest{}, err
	}
	return d.w.finish()
}

// stoppable is a file that ends with an error when ctx does.
type stoppable struct {
	ctx context.Context
	*os.File
}

func (s *stoppable) Read(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx)
	}
	return s.File.Read(p)
}

// table is the medium's partition table: partition 1 where xorriso put it, the others
// behind it, and room for the backup.
func (j *job) table(theirs *gpt.Table, payload int64) (*gpt.Table, error) {
	var esp *gpt.Partition
	for i, p := range theirs.Partitions {
		if p.Type == gpt.TypeESP {
			esp = &theirs.Partitions[i]
		}
	}
	if esp == nil || esp.Start%mib != 0 || esp.Size%mib != 0 || esp.Start < systemArea {
		return nil, errors.New("xorriso did not put the ESP at a whole MiB")
	}
	t := &gpt.Table{Disk: j.id.UUID("disk"), Sector: medium.SectorSize}
	at := esp.Start
	for _, p := range []gpt.Partition{
		{Type: gpt.TypeESP, Name: medium.LabelESP, Size: esp.Size},
		{Type: medium.TypePayload, Name: medium.LabelPayload, Size: roundUp(payload)},
		{Type: medium.TypePapers, Name: medium.LabelPapers, Size: medium.PapersSize},
		{Type: medium.TypeAnswers, Name: medium.LabelAnswers, Size: medium.AnswersSize},
	} {
		p.ID, p.Start = j.id.UUID(p.Name), at
		at = roundUp(at + p.Size)
		t.Partitions = append(t.Partitions, p)
	}
	t.Size = at // the answers leave room enough behind them
	return t, nil
}

const mib = int64(1) << 20

// roundUp makes whole MiB of bytes.
func roundUp(n int64) int64 { return (n + mib - 1) / mib * mib }
