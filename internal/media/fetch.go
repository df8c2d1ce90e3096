package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/limited"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// FromRelease makes a source of a release whose document the caller believes; trust
// is the signed metadata for the papers. Nothing but the map is fetched: see
// [Source.Fetch].
func FromRelease(ctx context.Context, rel *registry.Release, trust map[string][]byte) (*Source, error) {
	s, err := fromRelease(ctx, rel, trust)
	if err != nil {
		return nil, fmt.Errorf("reading the medium of %s: %w", rel.Document.ID, err)
	}
	return s, nil
}

func fromRelease(ctx context.Context, rel *registry.Release, trust map[string][]byte) (*Source, error) {
	r, err := rel.OpenMediumMap(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	encoded, err := limited.All(r, medium.MaxMap)
	if err != nil {
		return nil, err
	}
	s := &Source{
		Document: rel.Document, rel: rel,
		Papers: &medium.Papers{Document: rel.DocumentBytes, Map: encoded, Trust: trust},
		read:   func(int, []byte) error { return errNotFetched },
		Close:  func() error { return nil },
	}
	s.Map, err = readMap(rel.Document, encoded)
	if err != nil {
		return nil, err
	}
	_, err = s.Papers.Encode() // before anything else is fetched: are they too long?
	return s, err
}

var errNotFetched = errors.New("the medium's blocks were not fetched")

// Fetch brings the blocks of a release's medium here: into a file below dir, which
// holds one medium at a time and is kept for the next drive. What is there already,
// from a download that was cut, is not fetched again. A release in a directory is read
// where it is. Every extent that is fetched is compared.
func (s *Source) Fetch(ctx context.Context, dir string, report progress.Reporter) error {
	if s.rel == nil {
		return nil
	}
	if err := s.fetch(ctx, dir, report); err != nil {
		return fmt.Errorf("fetching the medium of %s: %w", s.Document.ID, err)
	}
	return nil
}

func (s *Source) fetch(ctx context.Context, dir string, report progress.Reporter) error {
	f, err := s.openLocal()
	if errors.Is(err, errors.ErrUnsupported) {
		f, err = s.download(ctx, dir, report)
	}
	if err != nil {
		return err
	}
	places := s.Map.Places()
	s.Close = f.Close
	s.read = func(i int, b []byte) error {
		_, err := f.ReadAt(b, places[i])
		return err
	}
	return nil
}

// openLocal opens the blocks of a release that is in a directory.
func (s *Source) openLocal() (*os.File, error) {
	dir, ok := strings.CutPrefix(s.rel.Repository().Name, "oci:")
	if !ok {
		return nil, errors.ErrUnsupported
	}
	layout, err := registry.OpenLayout(dir)
	if err != nil {
		return nil, err
	}
	return os.Open(layout.BlobPath(s.rel.MediumBlocks.Digest))
}

// download fetches what is not in the cache yet.
func (s *Source) download(ctx context.Context, dir string, report progress.Reporter) (*os.File, error) {
	f, err := openCache(dir, s.rel.MediumBlocks.Digest, s.rel.MediumBlocks.Size)
	if err != nil {
		return nil, err
	}
	if err := s.complete(ctx, f, report); err != nil {
		f.Close()
		return nil, err
	}
	s.checked = true
	return f, nil
}

func (s *Source) complete(ctx context.Context, f *os.File, report progress.Reporter) error {
	missing, err := s.missing(ctx, f, report)
	if err != nil || len(missing) == 0 {
		return err
	}
	total := int64(0)
	for _, rg := range missing {
		total += rg.Length
	}
	report.Stage("fetching "+s.Document.ID, total, progress.Bytes)
	if err := s.fetchRanges(ctx, f, missing, report); err != nil {
		return err
	}
	return f.Sync()
}

// openCache opens the file for some blocks, for this process alone, and removes
// those of other media that nobody uses.
func openCache(dir string, blocks digest.Digest, size int64) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, blocks.Encoded()+cacheSuffix)
	others, _ := filepath.Glob(filepath.Join(dir, "*"+cacheSuffix))
	for _, other := range others {
		if other == path {
			continue
		}
		if f, err := os.Open(other); err == nil {
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
				os.Remove(other)
			}
			f.Close()
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another ashlar uses %q now", path)
	}
	if err := f.Truncate(size); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

const cacheSuffix = ".blocks"

// maxRange is how much one request asks for: enough for its answer to be long beside
// the wait for it.
const maxRange = 16 << 20

// missing finds out what of the blocks is not in a file: as ranges of the blob, neighbours joined.
func (s *Source) missing(ctx context.Context, f *os.File, report progress.Reporter) ([]registry.Range, error) {
	there := make([]bool, len(s.Map.Extents))
	places := s.Map.Places()
	if end, err := f.Seek(0, unix.SEEK_DATA); err == nil && end >= 0 { // it is not all hole
		report.Stage("looking at what was fetched already", s.Map.Data(), progress.Bytes)
		pieces := s.extents()
		err := newCrew().each(ctx, pieces, func(i int, b []byte) error {
			_, err := f.ReadAt(b, places[i])
			there[i] = err == nil && pieces[i].matches(b)
			report.Add(int64(len(b)))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var ranges []registry.Range
	for i, e := range s.Map.Extents {
		if there[i] {
			continue
		}
		if n := len(ranges); n > 0 && ranges[n-1].Offset+ranges[n-1].Length == places[i] && ranges[n-1].Length+e.Length <= maxRange {
			ranges[n-1].Length += e.Length
			continue
		}
		ranges = append(ranges, registry.Range{Offset: places[i], Length: e.Length})
	}
	return ranges, nil
}

// fetchRanges brings ranges of the blob, each of whole extents, into a file. What is
// not as the map says never gets there.
func (s *Source) fetchRanges(ctx context.Context, f *os.File, ranges []registry.Range, report progress.Reporter) error {
	index := map[int64]int{}
	places := s.Map.Places()
	for i, at := range places {
		index[at] = i
	}
	buffers := sync.Pool{New: func() any { b := make([]byte, maxPiece); return &b }}
	return s.rel.Repository().FetchRanges(ctx, s.rel.MediumBlocks, ranges, 0, func(n int, r io.Reader) error {
		whole := buffers.Get().(*[]byte)
		defer buffers.Put(whole)
		for at := ranges[n].Offset; at < ranges[n].Offset+ranges[n].Length; {
			e := s.Map.Extents[index[at]]
			b := (*whole)[:e.Length]
			if _, err := io.ReadFull(r, b); err != nil {
				return err
			}
			if err := e.Check(b); err != nil {
				return err
			}
			if _, err := f.WriteAt(b, at); err != nil {
				return err
			}
			report.Add(e.Length)
			at += e.Length
		}
		return nil
	})
}
