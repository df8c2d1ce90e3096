package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/ashlar-os/ashlar/internal/media"
	"github.com/ashlar-os/ashlar/internal/media/drive"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// target is what a medium is written to: a drive, or a file.
type target struct {
	path  string
	drive *drive.Drive // nil: a file
}

// partial is where a file is made: nobody takes half a one for a whole one.
const partial = ".part"

// target finds what a person names with --to. What is no drive is a file.
func (o *mediaWriteOptions) target(name string, size int64) (*target, error) {
	if !isDriveName(name) {
		return fileTarget(name)
	}
	w := drive.Wish{Size: size}
	if isImage(o.source) {
		w.Image = o.source
	}
	d, err := o.wantDrive(name, w)
	if err != nil {
		return nil, err
	}
	return &target{d.Path, &d}, nil
}

// isDriveName tells the names of drives from those of files.
func isDriveName(name string) bool {
	if strings.HasPrefix(name, "/dev/") {
		return true
	}
	if st, err := os.Stat(name); err == nil {
		return st.Mode()&os.ModeDevice != 0
	}
	_, err := drivesHost().Find(name)
	return err == nil
}

// fileTarget refuses to write over a file: it may be the only one of its kind.
func fileTarget(path string) (*target, error) {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &target{path: path}, nil
	case err != nil:
		return nil, err
	case st.IsDir():
		return nil, &codeError{exitUsage, fmt.Errorf("%q is a directory", path)}
	case st.Mode()&os.ModeDevice != 0:
		return nil, &codeError{exitUsage, &hintError{fmt.Errorf("%q is a drive, and -o writes a file", path), "--to " + path}}
	}
	return nil, &hintError{fmt.Errorf("%q exists already", path), "remove it, or give another name"}
}

func (t *target) open(size int64) (drive.Device, error) {
	if t.drive != nil {
		return drivesHost().Open(*t.drive)
	}
	return drive.CreateFile(t.path+partial, size)
}

// write writes and reads back one target.
func (t *target) write(ctx context.Context, s *media.Source, answers []byte, report progress.Reporter) (w media.Written, err error) {
	dev, err := t.open(s.Map.Size)
	if err != nil {
		return w, err
	}
	w, err = media.Write(ctx, dev, s, media.WriteOptions{Name: t.path, Answers: answers, Drive: t.drive != nil}, report)
	if closed := dev.Close(); err == nil {
		err = closed
	}
	if err == nil && t.drive == nil {
		err = os.Rename(t.path+partial, t.path)
	}
	return w, err
}

func (t *target) powerOff() error {
	if t.drive == nil {
		return nil
	}
	return drivesHost().PowerOff(*t.drive)
}

// writeTargets writes all targets at once. One that fails does not stop the others.
func writeTargets(ctx context.Context, targets []*target, s *media.Source, answers []byte, report progress.Reporter) ([]writtenAnswer, error) {
	if n := int64(len(targets)); n > 1 {
		report.Stage(fmt.Sprintf("writing to %d drives and reading back", n), 2*n*s.Map.Data(), progress.Bytes)
		report = together{report}
	}
	list := make([]writtenAnswer, len(targets))
	errs := make([]error, len(targets))
	var group sync.WaitGroup
	for i, t := range targets {
		group.Go(func() {
			a := &list[i]
			a.Path = t.path
			if t.drive != nil {
				a.Model, a.Serial = t.drive.Model, t.drive.Serial
			}
			if a.Written, errs[i] = t.write(ctx, s, answers, report); errs[i] != nil {
				a.Error = errs[i].Error()
			}
		})
	}
	group.Wait()
	return list, errors.Join(errs...)
}

// together makes one stage of those of several drives.
type together struct{ progress.Reporter }

func (together) Stage(string, int64, progress.Unit) {}
