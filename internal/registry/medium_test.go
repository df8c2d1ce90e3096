package registry

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/release"
)

// withMedium is input of a release with an install medium; the blocks are no real ones.
func (f *fixture) withMedium(t *testing.T, tags ...string) (in ReleaseInput, blocks []byte) {
	t.Helper()
	in = f.input(t, tags...)
	blocks = noise(7, 300*4096)
	in.MediumMap = []byte("a map\n")
	in.MediumBlocks = filepath.Join(t.TempDir(), "blocks")
	must(t, os.WriteFile(in.MediumBlocks, blocks, 0o600))
	f.doc.Medium = &release.Medium{Size: 1 << 30, Map: sum(in.MediumMap), Blocks: sum(blocks), RootHash: sum(nil).SHA256}
	return in, blocks
}

// TestMedium: it is written, goes along with every copy, and its parts are read by ranges.
func TestMedium(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t, "1.0.0", 1000)
	in, blocks := f.withMedium(t, "stable")
	layout, err := CreateLayout(filepath.Join(t.TempDir(), "out"))
	must(t, err)
	_, err = layout.WriteRelease(ctx, in)
	must(t, err)
	if _, err := os.Stat(in.MediumBlocks); err == nil {
		t.Error("the blocks were copied and not moved")
	}

	address := startDockerRegistry(t)
	remote := openTest(t, address+"/acme/server")
	_, err = Copy(ctx, layout.Repository(), remote, "stable", "stable", nil)
	must(t, err)
	dir := filepath.Join(t.TempDir(), "copy")
	run(t, "skopeo", "copy", "--all", "--src-tls-verify=false", "docker://"+remote.Name+":stable", "oci:"+dir+":stable")
	copied, _, err := Open(dir+":stable", Options{})
	must(t, err)

	for _, repo := range []*Repository{layout.Repository(), remote, copied} {
		rel, err := repo.ReadRelease(ctx, "stable")
		must(t, err)
		if got, err := readAll(rel.OpenMediumMap(ctx)); err != nil || !bytes.Equal(got, in.MediumMap) {
			t.Errorf("%s: the map is %q, %v", repo.Name, got, err)
		}
		if got, err := readAll(rel.OpenMediumBlocks(ctx)); err != nil || !bytes.Equal(got, blocks) {
			t.Errorf("%s: %d bytes of blocks, %v", repo.Name, len(got), err)
		}
		if got, err := readAll(repo.FetchRange(ctx, rel.MediumBlocks, 4096, 8192)); err != nil || !bytes.Equal(got, blocks[4096:12288]) {
			t.Errorf("%s: a range of %d bytes, %v", repo.Name, len(got), err)
		}
	}
}

func TestReleaseWithoutMedium(t *testing.T) {
	f := newFixture(t, "1.0.0", 1000).written(t, "", "stable")
	rel, err := f.layout.Repository().ReadRelease(context.Background(), "stable")
	must(t, err)
	if _, err := rel.OpenMediumBlocks(context.Background()); !errors.Is(err, ErrNoMedium) {
		t.Errorf("its blocks: %v", err)
	}
}

// TestMediumDisagrees: what is written and what is read has to be what the document says.
func TestMediumDisagrees(t *testing.T) {
	ctx := context.Background()
	for name, spoil := range map[string]func(in *ReleaseInput){
		"another map":         func(in *ReleaseInput) { in.MediumMap = []byte("another\n") },
		"no map":              func(in *ReleaseInput) { in.MediumMap = nil },
		"no blocks":           func(in *ReleaseInput) { in.MediumBlocks = "" },
		"fewer blocks":        func(in *ReleaseInput) { must(t, os.Truncate(in.MediumBlocks, 4096)) },
		"not in the document": func(in *ReleaseInput) { d := *in.Document; d.Medium = nil; in.Document = &d },
	} {
		in, _ := newFixture(t, "1.0.0", 1000).withMedium(t)
		spoil(&in)
		layout, err := CreateLayout(filepath.Join(t.TempDir(), "out"))
		must(t, err)
		if _, err := layout.WriteRelease(ctx, in); err == nil {
			t.Errorf("%s: it was written", name)
		}
	}

	f := newFixture(t, "1.0.0", 1000)
	in, _ := f.withMedium(t, "stable")
	layout, err := CreateLayout(filepath.Join(t.TempDir(), "out"))
	must(t, err)
	_, err = layout.WriteRelease(ctx, in)
	must(t, err)
	rel, err := layout.Repository().ReadRelease(ctx, "stable")
	must(t, err)
	for name, change := range map[string]func(r *Release){
		"map":                 func(r *Release) { r.MediumMap.Digest = r.SBOM.Digest },
		"blocks":              func(r *Release) { r.MediumBlocks.Size-- },
		"no layer":            func(r *Release) { r.MediumBlocks = r.MediumMap; r.MediumBlocks.Digest, r.MediumBlocks.Size = "", 0 },
		"not in the document": func(r *Release) { d := *r.Document; d.Medium = nil; r.Document = &d },
	} {
		changed := *rel
		change(&changed)
		if changed.agree() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	must(t, rel.agree())
}
