package media

import (
	"context"
	"fmt"

	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/media/drive"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// Source is a medium that can be written. Who makes one has believed the release
// document; the map and every extent follow from it.
type Source struct {
	Document *release.Document
	Papers   *medium.Papers // as they will be on the medium
	Map      *medium.Map

	rel     *registry.Release           // whose blocks are to be fetched; nil: there is nothing to fetch
	read    func(i int, b []byte) error // the content of extent i
	checked bool                        // every extent was compared on its way here
	Close   func() error
}

// Check compares every extent with the map, so that nothing is written that is not
// signed. What was just fetched was compared on its way.
func (s *Source) Check(ctx context.Context, report progress.Reporter) error {
	if s.checked {
		return nil
	}
	report.Stage("verifying "+s.Document.ID, s.Map.Data(), progress.Bytes)
	pieces := s.extents()
	err := newCrew().each(ctx, pieces, func(i int, b []byte) error {
		defer report.Add(int64(len(b)))
		return pieces[i].check(b)
	})
	if err != nil {
		return fmt.Errorf("verifying the medium of %s: %w", s.Document.ID, err)
	}
	s.checked = true
	return nil
}

func (s *Source) extents() []piece {
	pieces := make([]piece, len(s.Map.Extents))
	for i, e := range s.Map.Extents {
		pieces[i] = piece{
			offset: e.Offset, length: e.Length, sha256: e.SHA256,
			read: func(b []byte) error { return s.read(i, b) },
		}
	}
	return pieces
}

// WriteOptions say how a medium is written.
type WriteOptions struct {
	Name    string // of the drive or file, for people
	Answers []byte // of an unattended installation, TOML; nil: none
	Drive   bool   // it is a drive, which may have less than it claims
}

// Write writes a medium, and reads it back. The package's documentation has the
// states that it goes through. A write of the same medium to the same drive that was
// cut is gone on with.
func Write(ctx context.Context, dev drive.Device, s *Source, o WriteOptions, report progress.Reporter) (Written, error) {
	if dev.Size() < s.Map.Size {
		return Written{}, fmt.Errorf("%s has %d bytes, and the medium of %s has %d", o.Name, dev.Size(), s.Document.ID, s.Map.Size)
	}
	if err := s.Check(ctx, report); err != nil {
		return Written{}, err
	}
	w := &burn{dev: dev, name: o.Name, about: s.Document.Medium.Map.SHA256, size: s.Map.Size, probe: o.Drive, report: report}
	w.pieces = s.extents()
	papers, err := s.Papers.Encode()
	if err != nil {
		return Written{}, err
	}
	answers, err := medium.EncodeAnswers(o.Answers)
	if err != nil {
		return Written{}, err
	}
	for name, content := range map[string][]byte{medium.RegionPapers: papers, medium.RegionAnswers: answers} {
		region := s.Map.Region(name)
		if int64(len(content)) != region.Length {
			return Written{}, fmt.Errorf("the medium has %d bytes for its %s, which have %d", region.Length, name, len(content))
		}
		p := memoryPiece(region.Offset, content)
		p.fresh = true // other papers and answers belong to the same map
		w.pieces = append(w.pieces, p)
	}
	return w.run(ctx)
}
