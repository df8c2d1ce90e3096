package registry

import (
	"encoding/json"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func emptyIndex() ocispec.Index {
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	index.SchemaVersion = 2
	return index
}

// plainDescriptor is desc without what only its place in a list says about it.
func plainDescriptor(desc ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
}

// parseTopIndex reads a layout's index.json, which may list many tags.
func parseTopIndex(b []byte) (ocispec.Index, error) { return parseIndexLimit(b, maxTags) }

// parseIndex reads an index that comes from outside.
func parseIndex(b []byte) (ocispec.Index, error) { return parseIndexLimit(b, maxEntries) }

func parseIndexLimit(b []byte, limit int) (ocispec.Index, error) {
	var index ocispec.Index
	if len(b) > maxManifest {
		return index, fmt.Errorf("the index has %d bytes, the limit is %d", len(b), maxManifest)
	}
	if err := json.Unmarshal(b, &index); err != nil {
		return index, fmt.Errorf("the index is not valid JSON: %w", err)
	}
	if err := checkHead(index.SchemaVersion, index.MediaType, ocispec.MediaTypeImageIndex, dockerList); err != nil {
		return index, err
	}
	if len(index.Manifests) > limit {
		return index, fmt.Errorf("field %q lists %d manifests, the limit is %d", "manifests", len(index.Manifests), limit)
	}
	for i, desc := range index.Manifests {
		if err := checkListed(desc, maxManifest); err != nil {
			return index, fmt.Errorf("field %q: %w", fmt.Sprintf("manifests[%d]", i), err)
		}
	}
	return index, nil
}

// parseManifest reads an image or artifact manifest that comes from outside.
func parseManifest(b []byte) (ocispec.Manifest, error) {
	var m ocispec.Manifest
	if len(b) > maxManifest {
		return m, fmt.Errorf("the manifest has %d bytes, the limit is %d", len(b), maxManifest)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("the manifest is not valid JSON: %w", err)
	}
	if err := checkHead(m.SchemaVersion, m.MediaType, ocispec.MediaTypeImageManifest, dockerManifest); err != nil {
		return m, err
	}
	if len(m.Layers) > maxLayers {
		return m, fmt.Errorf("field %q lists %d layers, the limit is %d", "layers", len(m.Layers), maxLayers)
	}
	if err := checkListed(m.Config, maxConfig); err != nil {
		return m, fmt.Errorf("field %q: %w", "config", err)
	}
	if m.Subject != nil {
		if err := checkListed(*m.Subject, maxManifest); err != nil {
			return m, fmt.Errorf("field %q: %w", "subject", err)
		}
	}
	for i, desc := range m.Layers {
		if err := checkListed(desc, maxBlob); err != nil {
			return m, fmt.Errorf("field %q: %w", fmt.Sprintf("layers[%d]", i), err)
		}
	}
	return m, nil
}

func checkHead(schema int, mediaType string, want ...string) error {
	if schema != 2 {
		return fmt.Errorf("field %q is %d, want 2", "schemaVersion", schema)
	}
	if mediaType == "" {
		return nil
	}
	for _, w := range want {
		if mediaType == w {
			return nil
		}
	}
	return fmt.Errorf("field %q is %.100q, want %q", "mediaType", mediaType, want[0])
}

func checkListed(desc ocispec.Descriptor, limit int64) error {
	if err := checkDescriptor(desc); err != nil {
		return err
	}
	if desc.Size > limit {
		return fmt.Errorf("%s has %d bytes, the limit is %d", desc.Digest, desc.Size, limit)
	}
	return nil
}
