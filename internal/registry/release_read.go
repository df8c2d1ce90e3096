package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ashlar-os/ashlar/internal/image/release"
)

// Release is a release as a repository holds it. Its descriptors agree with
// its document; whether the document may be believed is for the caller to decide.
type Release struct {
	Index    ocispec.Descriptor // what the tag names; none where there was no tag
	Manifest ocispec.Descriptor // the release artifact
	Image    ocispec.Descriptor // the OCI image

	Document       *release.Document
	DocumentBytes  []byte
	DocumentDigest string // "sha256:…"

	EROFS, UKI            ocispec.Descriptor // compressed
	Pack                  ocispec.Descriptor // the layer; for FetchRanges
	PackIndex, SBOM, Lock ocispec.Descriptor

	// The install medium; none where the document has none. A chunk of the image
	// is a range of the blocks, see package medium.
	MediumMap, MediumBlocks ocispec.Descriptor

	repo *Repository
}

// Repository is where the release was read from.
func (rel *Release) Repository() *Repository { return rel.repo }

// ReadRelease reads what a tag, or the digest of an index, names: three
// requests, of which the last gives the release document.
func (r *Repository) ReadRelease(ctx context.Context, tag string) (*Release, error) {
	rel, err := r.readRelease(ctx, tag)
	if err != nil {
		return nil, fmt.Errorf("reading release %q from %s: %w", tag, r.Name, err)
	}
	return rel, nil
}

func (r *Repository) readRelease(ctx context.Context, tag string) (*Release, error) {
	rel := &Release{repo: r}
	var body []byte
	var err error
	if rel.Index, body, err = r.place.manifest(ctx, tag); err != nil {
		return nil, err
	}
	if rel.Index.MediaType != ocispec.MediaTypeImageIndex {
		return nil, fmt.Errorf("it is not a release but %.100q", rel.Index.MediaType)
	}
	index, err := parseIndex(body)
	if err != nil {
		return nil, err
	}
	if rel.Manifest, err = findArtifact(index); err != nil {
		return nil, err
	}
	if body, err = r.FetchBytes(ctx, rel.Manifest, maxManifest); err != nil {
		return nil, err
	}
	if err := rel.readArtifact(ctx, body); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(index.Manifests, func(d ocispec.Descriptor) bool {
		return d.Digest == rel.Image.Digest && d.Size == rel.Image.Size
	}) {
		return nil, fmt.Errorf("the artifact belongs to the image %s, which the index does not list", rel.Image.Digest)
	}
	if isVersionTag(tag) && tag != release.Tag(rel.Document.Version) {
		return nil, fmt.Errorf("it is of version %q", rel.Document.Version)
	}
	return rel, nil
}

// ReadReleaseArtifact reads the release whose artifact manifest has a digest
// ("sha256:…"), whatever the tags say: two requests, of which the second gives
// the release document. The release has no Index.
func (r *Repository) ReadReleaseArtifact(ctx context.Context, artifact string) (*Release, error) {
	rel, err := r.readReleaseArtifact(ctx, artifact)
	if err != nil {
		return nil, fmt.Errorf("reading release artifact %q from %s: %w", artifact, r.Name, err)
	}
	return rel, nil
}

func (r *Repository) readReleaseArtifact(ctx context.Context, artifact string) (rel *Release, err error) {
	if err := checkDigest(digest.Digest(artifact)); err != nil {
		return nil, err
	}
	rel = &Release{repo: r}
	var body []byte
	if rel.Manifest, body, err = r.place.manifest(ctx, artifact); err != nil {
		return nil, err
	}
	if rel.Manifest.MediaType != ocispec.MediaTypeImageManifest {
		return nil, fmt.Errorf("it is not a release artifact but %.100q", rel.Manifest.MediaType)
	}
	return rel, rel.readArtifact(ctx, body)
}

// readArtifact fills in what the release artifact says, and its document.
func (rel *Release) readArtifact(ctx context.Context, body []byte) error {
	artifact, err := parseManifest(body)
	if err != nil {
		return err
	}
	document, err := rel.takeLayers(artifact)
	if err != nil {
		return err
	}
	if rel.DocumentBytes, err = rel.repo.FetchBytes(ctx, document, maxDocument); err != nil {
		return err
	}
	rel.DocumentDigest = document.Digest.String()
	if rel.Document, err = release.Decode(rel.DocumentBytes); err != nil {
		return err
	}
	return rel.agree()
}

// findArtifact finds the one release artifact that an index lists.
func findArtifact(index ocispec.Index) (found ocispec.Descriptor, err error) {
	for _, desc := range index.Manifests {
		if desc.MediaType != ocispec.MediaTypeImageManifest ||
			desc.ArtifactType != TypeRelease && desc.Annotations[annotationArtifact] != TypeRelease {
			continue
		}
		if found.Digest != "" {
			return found, errors.New("the index lists more than one release artifact")
		}
		found = plainDescriptor(desc)
	}
	if found.Digest == "" {
		return found, errors.New("it is not a release: the index lists no release artifact")
	}
	return found, nil
}

// takeLayers fills in the descriptors, and returns that of the document.
func (rel *Release) takeLayers(artifact ocispec.Manifest) (document ocispec.Descriptor, err error) {
	if artifact.ArtifactType != TypeRelease {
		return document, fmt.Errorf("field %q of the artifact is %.100q, want %q", "artifactType", artifact.ArtifactType, TypeRelease)
	}
	if artifact.Subject == nil {
		return document, fmt.Errorf("field %q of the artifact is missing", "subject")
	}
	rel.Image = plainDescriptor(*artifact.Subject)
	for _, want := range []struct {
		into      *ocispec.Descriptor
		mediaType string
		limit     int64
		optional  bool
	}{
		{&document, TypeRelease, maxDocument, false},
		{&rel.EROFS, TypeEROFS, compressedLimit(maxEROFS), false},
		{&rel.UKI, TypeUKI, compressedLimit(maxUKI), false},
		{&rel.PackIndex, TypePackIndex, maxIndex, false},
		{&rel.SBOM, TypeSBOM, maxSBOM, false},
		{&rel.Lock, TypeLock, maxLock, false},
		{&rel.MediumMap, TypeMediumMap, maxMap, true},
		{&rel.MediumBlocks, TypeMediumBlocks, maxBlob, true},
	} {
		for _, layer := range artifact.Layers {
			role := layer.Annotations[annotationRole]
			if layer.MediaType != want.mediaType || role != "" && role != release.RoleRoot {
				continue
			}
			if want.into.Digest != "" {
				return document, fmt.Errorf("the artifact has more than one layer %q", want.mediaType)
			}
			if layer.Size > want.limit {
				return document, fmt.Errorf("layer %q has %d bytes, the limit is %d", want.mediaType, layer.Size, want.limit)
			}
			*want.into = layer
		}
		if want.into.Digest == "" && !want.optional {
			return document, fmt.Errorf("the artifact has no layer %q", want.mediaType)
		}
	}
	return document, nil
}

// agree compares the descriptors with the document, as far as that can be
// done without fetching. The pack is named by the document alone.
func (rel *Release) agree() error {
	doc := rel.Document
	medium := release.Medium{} // none, as the descriptors must be then
	if doc.Medium != nil {
		medium = *doc.Medium
	}
	for _, c := range []struct {
		field string
		got   ocispec.Descriptor
		want  release.File
	}{
		{"pack_index", rel.PackIndex, doc.PackIndex}, {"sbom", rel.SBOM, doc.SBOM}, {"lock", rel.Lock, doc.Lock},
		{"medium.map", rel.MediumMap, medium.Map}, {"medium.blocks", rel.MediumBlocks, medium.Blocks},
	} {
		if hexOf(c.got.Digest) != c.want.SHA256 || c.got.Size != c.want.Size {
			return fmt.Errorf("field %q of the document names %s (%d bytes), and the artifact has %s (%d bytes)",
				c.field, c.want.SHA256, c.want.Size, c.got.Digest, c.got.Size)
		}
	}
	rel.Pack = ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayerZstd,
		Digest:    digest.NewDigestFromEncoded(digest.SHA256, doc.Pack.SHA256),
		Size:      doc.Pack.Size,
	}
	for _, c := range []struct {
		field              string
		plain, limit, comp int64
	}{
		{"images", doc.Root().Size, maxEROFS, rel.EROFS.Size},
		{"uki", doc.UKI.Size, maxUKI, rel.UKI.Size},
	} {
		if c.plain > c.limit {
			return fmt.Errorf("field %q of the document: %d bytes, the limit is %d", c.field, c.plain, c.limit)
		}
		if c.comp > compressedLimit(c.plain) {
			return fmt.Errorf("field %q of the document: %d bytes cannot take %d compressed", c.field, c.plain, c.comp)
		}
	}
	return nil
}

// hexOf is the digest without its algorithm; "" where there is none.
func hexOf(d digest.Digest) string {
	if d == "" {
		return ""
	}
	return d.Encoded()
}

// compressedLimit is the most bytes that n can take as a zstd stream: raw
// blocks with a header of 3 bytes per 128 KiB, and those of the frame.
func compressedLimit(n int64) int64 { return n + n>>10 + 1024 }
