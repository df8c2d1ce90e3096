package medium

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Papers are what a medium brings to be believed without a network: the release
// document, the map that it names, and the signed metadata of its publisher as of
// writing. They prove themselves, from the root of trust that is sealed in the image.
type Papers struct {
	Document []byte            // the release document, as published
	Map      []byte            // the encoded Map; nil: they have none, and the medium cannot be verified without a network
	Trust    map[string][]byte // "1.root.json", "7.targets.json", … "timestamp.json"
}

// ErrBlank is what reading an open region gives that nobody filled.
var ErrBlank = errors.New("nothing was written there")

// The names in the archive, and its limits.
const (
	papersDocument = "release.json"
	papersMap      = "map.json"
	papersTrust    = "trust/"
	maxPapers      = 1024 // files of metadata; a publisher's roots are never dropped
)

// Encode writes the papers as they stand in their region, padded with zeros to
// PapersSize. One set of papers gives the same bytes.
func (p *Papers) Encode() ([]byte, error) {
	b, err := p.encode()
	if err != nil {
		return nil, fmt.Errorf("writing the medium's papers: %w", err)
	}
	return b, nil
}

func (p *Papers) encode() ([]byte, error) {
	if len(p.Document) == 0 {
		return nil, errors.New("they have no release document")
	}
	if len(p.Trust) > maxPapers {
		return nil, fmt.Errorf("they have %d files of signed metadata, at most %d are allowed", len(p.Trust), maxPapers)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	put := func(name string, b []byte) error {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(b)), Format: tar.FormatUSTAR})
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	}
	if err := put(papersDocument, p.Document); err != nil {
		return nil, err
	}
	if len(p.Map) > 0 {
		if err := put(papersMap, p.Map); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Trust)) {
		if err := checkMetadataName(name); err != nil {
			return nil, err
		}
		if err := put(papersTrust+name, p.Trust[name]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if out.Len() > PapersSize {
		return nil, fmt.Errorf("they have %d bytes, and a medium has room for %d", out.Len(), PapersSize)
	}
	return append(out.Bytes(), make([]byte, PapersSize-out.Len())...), nil
}

// ReadPapers reads a region that holds papers exactly as Encode writes them. A region
// of zeros gives ErrBlank.
func ReadPapers(r io.Reader) (*Papers, error) {
	b, err := readRegion(r, PapersSize)
	if errors.Is(err, ErrBlank) {
		return nil, fmt.Errorf("the medium's papers: %w", err)
	}
	var p *Papers
	if err == nil {
		p, err = decodePapers(b)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the medium's papers: %w", err)
	}
	return p, nil
}

func decodePapers(b []byte) (*Papers, error) {
	p := &Papers{Trust: map[string][]byte{}}
	archive := tar.NewReader(bytes.NewReader(b))
	for i := 0; ; i++ {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if i > maxPapers+1 {
			return nil, fmt.Errorf("they have more than %d files", maxPapers)
		}
		if h.Size > PapersSize { // a sparse file could claim to be any length
			return nil, fmt.Errorf("file %.80q has %d bytes", h.Name, h.Size)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			return nil, fmt.Errorf("file %.80q: %w", h.Name, err)
		}
		name, metadata := strings.CutPrefix(h.Name, papersTrust)
		switch {
		case h.Name == papersDocument && i == 0:
			p.Document = content
		case h.Name == papersMap && i == 1:
			p.Map = content
		case metadata:
			p.Trust[name] = content
		default:
			return nil, fmt.Errorf("file %.80q does not belong there", h.Name)
		}
	}
	// Whatever else an archive can say (owners, links, a name twice, something behind
	// its end) would be lost when it is written anew.
	canonical, err := p.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(b, canonical) {
		return nil, errors.New("they are not in the canonical form")
	}
	return p, nil
}

// checkMetadataName takes names as docs/registry.md has them:
// ([1-9][0-9]{0,9}\.)?[a-z][a-z0-9-]{0,62}\.json.
func checkMetadataName(name string) error {
	bad := fmt.Errorf("%.80q is no name of signed metadata", name)
	role, ok := strings.CutSuffix(name, ".json")
	if !ok {
		return bad
	}
	if version, rest, ok := strings.Cut(role, "."); ok {
		if version == "" || len(version) > 10 || version[0] == '0' || strings.Trim(version, "0123456789") != "" {
			return bad
		}
		role = rest
	}
	if role == "" || len(role) > 63 || role[0] < 'a' || role[0] > 'z' ||
		strings.Trim(role, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return bad
	}
	return nil
}
