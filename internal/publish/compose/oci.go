package compose

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// imageSource is what flattening needs of a repository: registry.Repository is one.
type imageSource interface {
	Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error)
	Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// storeFunc keeps the content of the regular file n, whose metadata is
// complete but for it: size bytes from r, and then fills Size, Digest, Payload
// and Source, or Inline.
type storeFunc func(n *tree.Node, r io.Reader, size int64) error

// ociOptions says which image to flatten, and where its contents go.
type ociOptions struct {
	Source    imageSource
	Reference string           // a tag or a digest
	Platform  ocispec.Platform // of the image, where there are several
	Store     storeFunc
}

// ociBase is an image turned into a tree.
type ociBase struct {
	Tree     *tree.Tree
	Manifest digest.Digest // what Lock.Image records
	Config   ocispec.Image
}

// Docker's names for what OCI standardised later; registries are full of them.
const (
	dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	dockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
)

// Limits on an image from outside.
const (
	maxOCIJSON   = 8 << 20 // bytes of an index, a manifest or a config
	maxOCILayers = 512
	maxOCINested = 3 // manifests on the way: an index, an index in it, the image
)

// flattenOCI reads an OCI image and applies its layers, lowest first, as a
// container engine would (image-spec, layer.md), in memory: nothing is ever
// unpacked into a directory, so no path in a layer can lead out of one.
func flattenOCI(ctx context.Context, o ociOptions) (*ociBase, error) {
	base, err := flatten(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("flattening image %q: %w", o.Reference, err)
	}
	return base, nil
}

func flatten(ctx context.Context, o ociOptions) (*ociBase, error) {
	desc, err := o.Source.Resolve(ctx, o.Reference)
	if err != nil {
		return nil, err
	}
	manifest, desc, err := findManifest(ctx, o, desc)
	if err != nil {
		return nil, err
	}
	base := &ociBase{Manifest: desc.Digest}
	if err := fetchJSON(ctx, o.Source, manifest.Config, &base.Config); err != nil {
		return nil, fmt.Errorf("reading the config: %w", err)
	}
	if base.Config.OS != o.Platform.OS || base.Config.Architecture != o.Platform.Architecture {
		return nil, fmt.Errorf("it is for %s/%s, not for %s/%s",
			base.Config.OS, base.Config.Architecture, o.Platform.OS, o.Platform.Architecture)
	}
	diffIDs := base.Config.RootFS.DiffIDs
	if len(manifest.Layers) != len(diffIDs) {
		return nil, fmt.Errorf("its manifest has %d layers, its config has %d diff_ids", len(manifest.Layers), len(diffIDs))
	}
	if len(diffIDs) == 0 || len(diffIDs) > maxOCILayers {
		return nil, fmt.Errorf("it has %d layers, want 1 to %d", len(diffIDs), maxOCILayers)
	}
	layered := newLayeredTree(o.Store)
	for i, layer := range manifest.Layers {
		if err := applyBlob(ctx, o.Source, layered, layer, diffIDs[i]); err != nil {
			return nil, fmt.Errorf("layer %d, %s: %w", i+1, layer.Digest, err)
		}
	}
	base.Tree = layered.finish()
	return base, nil
}

// findManifest goes from desc down through indexes to the manifest of the platform.
func findManifest(ctx context.Context, o ociOptions, desc ocispec.Descriptor) (*ocispec.Manifest, ocispec.Descriptor, error) {
	for range maxOCINested {
		switch desc.MediaType {
		case ocispec.MediaTypeImageManifest, dockerManifest:
			manifest := new(ocispec.Manifest)
			if err := fetchJSON(ctx, o.Source, desc, manifest); err != nil {
				return nil, desc, fmt.Errorf("reading manifest %s: %w", desc.Digest, err)
			}
			if manifest.MediaType != "" && manifest.MediaType != desc.MediaType {
				return nil, desc, fmt.Errorf("manifest %s says it is %q, its descriptor says %q",
					desc.Digest, manifest.MediaType, desc.MediaType)
			}
			return manifest, desc, nil
		case ocispec.MediaTypeImageIndex, dockerManifestList:
			var index ocispec.Index
			if err := fetchJSON(ctx, o.Source, desc, &index); err != nil {
				return nil, desc, fmt.Errorf("reading index %s: %w", desc.Digest, err)
			}
			chosen, err := choosePlatform(index.Manifests, o.Platform)
			if err != nil {
				return nil, desc, fmt.Errorf("index %s: %w", desc.Digest, err)
			}
			desc = chosen
		default:
			return nil, desc, fmt.Errorf("%s is a %q, which is no image", desc.Digest, desc.MediaType)
		}
	}
	return nil, desc, fmt.Errorf("its indexes are nested more than %d deep", maxOCINested)
}

// choosePlatform takes the entry for exactly the platform. An index with one
// entry that says nothing is taken at its word; the config is compared later.
func choosePlatform(entries []ocispec.Descriptor, want ocispec.Platform) (ocispec.Descriptor, error) {
	if len(entries) == 1 && entries[0].Platform == nil {
		return entries[0], nil
	}
	var found []string
	for _, entry := range entries {
		p := entry.Platform
		if p == nil {
			continue
		}
		if p.OS == want.OS && p.Architecture == want.Architecture && p.Variant == want.Variant {
			return entry, nil
		}
		found = append(found, strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/"))
	}
	return ocispec.Descriptor{}, fmt.Errorf("it has no image for %s/%s; it has %q",
		want.OS, want.Architecture, found[:min(len(found), 20)])
}

// fetchJSON reads a small blob whole, then parses it: nothing is looked at
// before its digest was verified.
func fetchJSON(ctx context.Context, source imageSource, desc ocispec.Descriptor, into any) error {
	if desc.Size < 2 || desc.Size > maxOCIJSON {
		return fmt.Errorf("it has %d bytes, want 2 to %d", desc.Size, maxOCIJSON)
	}
	rc, err := source.Fetch(ctx, desc)
	if err != nil {
		return err
	}
	defer rc.Close()
	checked, err := newCheckedReader(rc, desc.Digest, desc.Size)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(checked)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}
