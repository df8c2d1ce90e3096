// Package mediatest makes signed releases with a made-up medium: a partition table,
// partitions of random content, open regions, and holes. Nothing in them boots.
package mediatest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/registry"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// Where the partitions of a made-up medium are, in bytes.
const (
	ESP     = 1 << 20
	Payload = 8 << 20
	Papers  = 40 << 20
	Answers = Papers + medium.PapersSize
	Size    = 48 << 20
)

// Image is a made-up medium, as published: its open regions are zero. With a seed come
// other partitions' contents.
func Image(t testing.TB, seed byte) []byte {
	t.Helper()
	b := make([]byte, Size)
	random := rand.NewChaCha8([32]byte{seed})
	random.Read(b[ESP : ESP+600<<10]) // and the rest of it is a hole
	random.Read(b[ESP+3<<20 : ESP+5<<20])
	random.Read(b[Payload : Payload+20<<20])
	copy(b[32769:], "CD001")
	table := gpt.Table{Disk: gpt.UUID{1}, Sector: medium.SectorSize, Size: Size, Partitions: []gpt.Partition{
		{Type: gpt.TypeESP, ID: gpt.UUID{2}, Name: medium.LabelESP, Start: ESP, Size: Payload - ESP},
		{Type: medium.TypePayload, ID: gpt.UUID{3}, Name: medium.LabelPayload, Start: Payload, Size: Papers - Payload},
		{Type: medium.TypePapers, ID: gpt.UUID{4}, Name: medium.LabelPapers, Start: Papers, Size: medium.PapersSize},
		{Type: medium.TypeAnswers, ID: gpt.UUID{5}, Name: medium.LabelAnswers, Start: Answers, Size: medium.AnswersSize},
	}}
	must(t, table.Write(writerAt(b)))
	return b
}

type writerAt []byte

func (w writerAt) WriteAt(b []byte, off int64) (int, error) { return copy(w[off:], b), nil }

// Map maps an image, and collects its blocks in use.
func Map(t testing.TB, image []byte) (encoded, blocks []byte) {
	t.Helper()
	m := &medium.Map{Schema: medium.Schema, Size: int64(len(image)), Open: []medium.Region{
		{Name: medium.RegionPapers, Offset: Papers, Length: medium.PapersSize},
		{Name: medium.RegionAnswers, Offset: Answers, Length: medium.AnswersSize},
	}}
	zero := make([]byte, medium.BlockSize)
	for at := 0; at < len(image); {
		end := at
		for end < len(image) && end-at < 1<<20 && !bytes.Equal(image[end:end+medium.BlockSize], zero) {
			end += medium.BlockSize
		}
		if end == at {
			at += medium.BlockSize
			continue
		}
		m.Extents = append(m.Extents, medium.Extent{
			Offset: int64(at), Length: int64(end - at), SHA256: sha256.Sum256(image[at:end]),
		})
		blocks = append(blocks, image[at:end]...)
		at = end
	}
	encoded, err := m.Encode()
	must(t, err)
	return encoded, blocks
}

// Publish writes a signed release with a medium of the given seed into the layout in
// dir; the channel "stable" names it. Change, unless nil, changes what is signed after that.
func (p *Publisher) Publish(dir, version string, seed byte, change func(*trust.Editor) error) {
	p.t.Helper()
	ctx := context.Background()
	encoded, blocks := Map(p.t, Image(p.t, seed))
	layout, err := registry.CreateLayout(dir)
	must(p.t, err)
	index, err := layout.WriteRelease(ctx, p.input(version, encoded, blocks))
	must(p.t, err)
	repo := layout.Repository()
	rel, err := repo.ReadRelease(ctx, index.Digest.String())
	must(p.t, err)
	before, err := repo.ReadTrust(ctx)
	var source trust.Source
	if err == nil {
		source = before
	} else {
		before = nil
	}
	editor, err := trust.Open(ctx, p.Keys, source, trust.EditorOptions{Repository: dir})
	must(p.t, err)
	must(p.t, editor.AddRelease(rel.DocumentBytes, rel.Manifest.Digest))
	must(p.t, editor.SetChannel("stable", version))
	if change != nil {
		must(p.t, change(editor))
	}
	files, err := editor.Sign(ctx)
	must(p.t, err)
	must(p.t, repo.WriteTrust(ctx, files, before))
	must(p.t, editor.Published(ctx))
}

func (p *Publisher) input(version string, encoded, blocks []byte) registry.ReleaseInput {
	content := []byte("release " + version)
	root := &tree.Node{Mode: tree.TypeDir | 0o755, Nlink: 1}
	root.Add(&tree.Node{Name: "version", Mode: tree.TypeRegular | 0o644, Nlink: 1, Size: uint64(len(content)), Inline: content})
	var image bytes.Buffer
	must(p.t, composefs.Write(&image, &tree.Tree{Root: root}, composefs.Options{}))
	paths := map[string]string{}
	for name, b := range map[string][]byte{"erofs": image.Bytes(), "uki": content, "pack": content, "blocks": blocks} {
		paths[name] = filepath.Join(p.t.TempDir(), name)
		must(p.t, os.WriteFile(paths[name], b, 0o600))
	}
	file := sum(content)
	return registry.ReleaseInput{
		Document: &release.Document{
			Schema: release.Schema, ID: "desktop-" + version, Name: "desktop", Version: version, Architecture: "amd64",
			Created: "2026-01-31T12:00:00Z",
			Images:  []release.Image{{Role: release.RoleRoot, Digest: verity.SumBytes(image.Bytes()), Size: int64(image.Len())}},
			UKI:     file, Pack: file, PackIndex: file, SBOM: file, Lock: file, RuleSet: release.RuleSet, Builder: "test",
			Medium: &release.Medium{Size: Size, Map: sum(encoded), Blocks: sum(blocks), RootHash: file.SHA256},
		},
		EROFS: paths["erofs"], UKI: paths["uki"], Pack: paths["pack"], DiffID: "sha256:" + file.SHA256,
		PackIndex: content, SBOM: content, Lock: content, MediumMap: encoded, MediumBlocks: paths["blocks"],
	}
}

// Release reads a release of the layout in dir.
func Release(t testing.TB, dir, version string) *registry.Release {
	t.Helper()
	repo, _, err := registry.Open("oci:"+dir, registry.Options{})
	must(t, err)
	rel, err := repo.ReadRelease(context.Background(), version)
	must(t, err)
	return rel
}

// Metadata reads the signed metadata of the layout in dir.
func Metadata(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	repo, _, err := registry.Open("oci:"+dir, registry.Options{})
	must(t, err)
	source, err := repo.ReadTrust(context.Background())
	must(t, err)
	files := map[string][]byte{}
	for _, name := range source.Names() {
		files[name], err = source.File(context.Background(), name, 1<<20)
		must(t, err)
	}
	return files
}

func sum(b []byte) release.File {
	s := sha256.Sum256(b)
	return release.File{SHA256: hex.EncodeToString(s[:]), Size: int64(len(b))}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
