package media

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/media/drive"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// Medium is what a drive or an image file holds, as it says itself. Nothing of it
// is believed until [Medium.Believe], and no extent until it was compared.
type Medium struct {
	Name     string // of the drive or file, for people
	Document *release.Document
	Papers   *medium.Papers
	Map      *medium.Map

	dev   drive.Device
	parts []gpt.Partition
}

// ErrNoMedium says that there is no Ashlar medium on a drive or in a file.
var ErrNoMedium = errors.New("it holds no Ashlar medium")

// ErrDamaged says that there is one, which does not agree with itself.
var ErrDamaged = errors.New("the medium is damaged")

// errCut is a medium whose writing did not end.
var errCut = fmt.Errorf("%w: a write to it did not come to its end, and the same command goes on with it", ErrNoMedium)

// OpenMedium reads what a medium says of itself. dev is read as it is: nothing is
// mounted, and nothing in it is started.
func OpenMedium(name string, dev drive.Device) (*Medium, error) {
	m := &Medium{Name: name, dev: dev}
	if err := m.open(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return m, nil
}

func (m *Medium) open() error {
	r := loose{m.dev}
	first := make([]byte, drive.Block)
	if _, err := r.ReadAt(first, 0); err != nil {
		return fmt.Errorf("%w: %w", ErrNoMedium, err)
	}
	if bytes.HasPrefix(first, []byte(markerText[:20])) {
		return errCut
	}
	table, err := gpt.Read(r, medium.SectorSize)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoMedium, err)
	}
	m.parts = table.Partitions
	for _, p := range m.parts {
		if p.Type == medium.TypePapers {
			return m.readPapers(io.NewSectionReader(r, p.Start, p.Size))
		}
	}
	return fmt.Errorf("%w: it has no partition with papers", ErrNoMedium)
}

func (m *Medium) readPapers(r io.Reader) (err error) {
	if m.Papers, err = medium.ReadPapers(r); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if m.Document, err = release.Decode(m.Papers.Document); err != nil {
		return fmt.Errorf("%w: its papers: %w", ErrDamaged, err)
	}
	m.Map, err = readMap(m.Document, m.Papers.Map)
	if err != nil {
		return fmt.Errorf("%w: its papers: %w", ErrDamaged, err)
	}
	if m.Map.Size > m.dev.Size() {
		return fmt.Errorf("%w: it has %d bytes, and the medium has %d", ErrDamaged, m.dev.Size(), m.Map.Size)
	}
	return nil
}

// readMap takes the map that a release document names.
func readMap(doc *release.Document, encoded []byte) (*medium.Map, error) {
	if doc.Medium == nil {
		return nil, fmt.Errorf("the release %s names no medium: it was not built with one", doc.ID)
	}
	if len(encoded) == 0 {
		return nil, errors.New("they do not bring the map of the medium")
	}
	sum := sha256.Sum256(encoded)
	if got := hex.EncodeToString(sum[:]); got != doc.Medium.Map.SHA256 {
		return nil, fmt.Errorf("the map of the medium has the sha256 %s, and the release document says %s", got, doc.Medium.Map.SHA256)
	}
	m, err := medium.DecodeMap(encoded)
	if err != nil {
		return nil, err
	}
	if m.Size != doc.Medium.Size || m.Data() != doc.Medium.Blocks.Size {
		return nil, fmt.Errorf("the map speaks of %d bytes in an image of %d, and the release document of %d in %d",
			m.Data(), m.Size, doc.Medium.Blocks.Size, doc.Medium.Size)
	}
	return m, nil
}

// Belief is why a medium is believed.
type Belief struct {
	View    *trust.View
	Release trust.Release
}

// Believe verifies a medium's papers from a root on: the release document is one
// that the root's publisher signed. It says nothing of the rest of the medium, which
// the document names. The errors are those of package trust. That the timestamp and the
// snapshot have expired is no error: see [trust.Client.RefreshMedium].
func (m *Medium) Believe(ctx context.Context, root []byte) (*Belief, error) {
	client := trust.Client{Root: root, Image: trust.Target{Name: m.Document.Name, Architecture: m.Document.Architecture}}
	view, err := client.RefreshMedium(ctx, trust.Files(m.Papers.Trust))
	if err != nil {
		return nil, fmt.Errorf("cannot trust the papers of %s: %w", m.Name, err)
	}
	signed, err := view.Vouches(digest.FromBytes(m.Papers.Document))
	if err != nil {
		return nil, fmt.Errorf("cannot trust the papers of %s: their release document is not signed: %w: %w", m.Name, trust.ErrUntrusted, err)
	}
	return &Belief{view, signed}, nil
}

// Close closes the drive or file.
func (m *Medium) Close() error { return m.dev.Close() }

// Source is the medium as something to write. Its papers go along as they are.
func (m *Medium) Source() *Source {
	return &Source{
		Document: m.Document, Papers: m.Papers, Map: m.Map,
		read: func(i int, b []byte) error {
			_, err := m.dev.ReadAt(b, m.Map.Extents[i].Offset)
			return err
		},
		Close: func() error { return nil },
	}
}

// loose reads any bytes of a device, which itself reads blocks alone.
type loose struct{ dev drive.Device }

func (l loose) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= l.dev.Size() {
		return 0, io.EOF
	}
	from := off &^ (drive.Block - 1)
	to := min((off+int64(len(b))+drive.Block-1)&^(drive.Block-1), l.dev.Size())
	whole := drive.Buffer(int(to - from))
	if _, err := l.dev.ReadAt(whole, from); err != nil {
		return 0, err
	}
	n := copy(b, whole[off-from:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}
