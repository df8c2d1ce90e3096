package registry

import (
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ashlar-os/ashlar/internal/image/release"
)

// Our annotations: of the artifact in the index, what it is; of the EROFS
// layer, which image of the document it is.
const (
	annotationArtifact = "org.ashlar.artifact"
	// annotationZstd is what containers/image adds to an entry of an index that it
	// copies when one of the entry's layers is zstd, be it an image or not. It is
	// there from the start, so that the copy has the original's digest (skopeo 1.18).
	annotationZstd   = "io.github.containers.compression.zstd"
	annotationRole   = "org.ashlar.image.role"
	annotationDigest = "org.ashlar.image.digest"
)

// annotations are those of the image, the artifact and the index.
func annotations(doc *release.Document) map[string]string {
	return map[string]string{
		ocispec.AnnotationTitle:   doc.Name,
		ocispec.AnnotationVersion: doc.Version,
		ocispec.AnnotationCreated: doc.Created,
	}
}

// putImage writes the ordinary OCI image whose one layer is the pack, and
// returns it as the index lists it.
func (l *Layout) putImage(in ReleaseInput, pack ocispec.Descriptor) (none ocispec.Descriptor, err error) {
	doc := in.Document
	created, err := time.Parse(time.RFC3339, doc.Created)
	if err != nil {
		return none, fmt.Errorf("field %q of the document: %w", "created", err)
	}
	arch, err := goArchitecture(doc.Architecture)
	if err != nil {
		return none, err
	}
	platform := ocispec.Platform{Architecture: arch, OS: "linux"}
	cmd := in.Cmd
	if len(cmd) == 0 {
		cmd = []string{"/bin/bash"}
	}
	config, err := l.putJSON(ocispec.MediaTypeImageConfig, ocispec.Image{
		Created:  &created,
		Platform: platform,
		Config: ocispec.ImageConfig{
			Env:    []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Cmd:    cmd,
			Labels: in.Labels,
		},
		RootFS:  ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.Digest(in.DiffID)}},
		History: []ocispec.History{{Created: &created, CreatedBy: "ashlar build", Comment: doc.ID}},
	})
	if err != nil {
		return none, err
	}
	desc, err := l.putJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   ocispec.MediaTypeImageManifest,
		Config:      config,
		Layers:      []ocispec.Descriptor{pack},
		Annotations: annotations(doc),
	})
	desc.Platform = &platform
	desc.Annotations = map[string]string{annotationZstd: "true"}
	return desc, err
}

// goArchitecture names an architecture as OCI does, from Debian's, the kernel's or OCI's own name.
func goArchitecture(name string) (string, error) {
	switch name {
	case "amd64", "x86_64", "x86-64":
		return "amd64", nil
	case "arm64", "aarch64":
		return "arm64", nil
	}
	return "", fmt.Errorf("field %q of the document: architecture %q is not known", "architecture", name)
}
