package compose

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// unverified reads a layout directory and believes it, so that the checks of
// flattening itself are what a test of damage meets.
type unverified string

func (dir unverified) Resolve(_ context.Context, reference string) (ocispec.Descriptor, error) {
	var index ocispec.Index
	b, err := os.ReadFile(filepath.Join(string(dir), "index.json"))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := json.Unmarshal(b, &index); err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, desc := range index.Manifests {
		if desc.Annotations[ocispec.AnnotationRefName] == reference {
			return desc, nil
		}
	}
	return ocispec.Descriptor{}, fmt.Errorf("no tag %q", reference)
}

func (dir unverified) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return os.Open(filepath.Join(string(dir), "blobs", desc.Digest.Algorithm().String(), desc.Digest.Encoded()))
}

func flattenLayout(t *testing.T, dir, tag string) (*ociBase, error) {
	t.Helper()
	return flattenOCI(t.Context(), ociOptions{Source: unverified(dir), Reference: tag, Platform: amd64, Store: storeInline})
}
