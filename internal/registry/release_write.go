package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// ReleaseInput is what one release is written from. Everything is checked
// against Document on the way.
type ReleaseInput struct {
	Document *release.Document

	EROFS string // path of the plain EROFS file of the root image
	UKI   string // path of the boot file
	Pack  string // path of the layer blob; moved into the layout

	DiffID string // "sha256:…" of the uncompressed layer

	PackIndex, SBOM, Lock []byte

	MediumMap    []byte // where Document has a medium
	MediumBlocks string // path of the blob of its blocks; moved into the layout

	Cmd    []string          // what `podman run` starts; default /bin/bash
	Labels map[string]string // of the OCI image
	Tags   []string          // besides the version's own, such as a channel

	Progress progress.Reporter // nil: none
}

// WriteRelease writes a release into the layout and names it by its version
// and in.Tags. It returns the descriptor of the OCI index. The same input gives
// the same bytes: nothing here asks the clock.
func (l *Layout) WriteRelease(ctx context.Context, in ReleaseInput) (ocispec.Descriptor, error) {
	desc, err := l.writeRelease(ctx, in)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("writing release to %q: %w", l.dir, err)
	}
	return desc, nil
}

func (l *Layout) writeRelease(ctx context.Context, in ReleaseInput) (none ocispec.Descriptor, err error) {
	document, err := in.Document.Encode()
	if err != nil {
		return none, err
	}
	if err := in.check(); err != nil {
		return none, err
	}
	report := in.Progress
	if report == nil {
		report = progress.None
	}
	doc, root := in.Document, in.Document.Root()
	report.Stage("writing release", root.Size+doc.UKI.Size, progress.Bytes)

	var erofs, uki ocispec.Descriptor
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		sum := verity.NewHasher()
		erofs, err = l.putCompressed(groupCtx, TypeEROFS, in.EROFS, root.Size, sum, report)
		if err == nil && sum.Sum() != root.Digest {
			err = fmt.Errorf("%q has the digest %s, and the document says %s", in.EROFS, sum.Sum(), root.Digest)
		}
		return err
	})
	group.Go(func() (err error) {
		sum := sha256.New()
		uki, err = l.putCompressed(groupCtx, TypeUKI, in.UKI, doc.UKI.Size, sum, report)
		if got := hex.EncodeToString(sum.Sum(nil)); err == nil && got != doc.UKI.SHA256 {
			err = fmt.Errorf("%q has the sha256 %s, and the document says %s", in.UKI, got, doc.UKI.SHA256)
		}
		return err
	})
	if err := group.Wait(); err != nil {
		return none, err
	}
	packDigest := digest.NewDigestFromEncoded(digest.SHA256, doc.Pack.SHA256)
	pack, err := l.PutBlobFile(ocispec.MediaTypeImageLayerZstd, in.Pack, packDigest)
	if err != nil {
		return none, err
	}

	image, err := l.putImage(in, pack)
	if err != nil {
		return none, err
	}
	erofs.Annotations = map[string]string{annotationRole: root.Role, annotationDigest: root.Digest.String()}
	artifact, err := l.putArtifact(in, image, document, erofs, uki)
	if err != nil {
		return none, err
	}
	index := emptyIndex()
	index.Annotations = annotations(doc)
	index.Manifests = []ocispec.Descriptor{image, artifact}
	desc, err := l.putJSON(ocispec.MediaTypeImageIndex, index)
	if err != nil {
		return none, err
	}
	return desc, l.SetTags(desc, append([]string{release.Tag(doc.Version)}, in.Tags...)...)
}

// check compares what is in memory, or is cheap to look at, with the document.
func (in ReleaseInput) check() error {
	if err := checkDigest(digest.Digest(in.DiffID)); err != nil {
		return fmt.Errorf("the layer's diff id: %w", err)
	}
	for _, c := range []struct {
		what  string
		bytes []byte
		want  release.File
		limit int64
	}{
		{"pack index", in.PackIndex, in.Document.PackIndex, maxIndex},
		{"SBOM", in.SBOM, in.Document.SBOM, maxSBOM},
		{"lock", in.Lock, in.Document.Lock, maxLock},
		{"medium's map", in.MediumMap, in.mediumMap(), maxMap},
	} {
		sum := sha256.Sum256(c.bytes)
		switch {
		case int64(len(c.bytes)) > c.limit:
			return fmt.Errorf("the %s has %d bytes, the limit is %d", c.what, len(c.bytes), c.limit)
		case hex.EncodeToString(sum[:]) != c.want.SHA256 || int64(len(c.bytes)) != c.want.Size:
			return fmt.Errorf("the %s is not the one that the document names", c.what)
		}
	}
	if size := in.Document.Root().Size; size > maxEROFS {
		return fmt.Errorf("the image has %d bytes, the limit is %d", size, int64(maxEROFS))
	}
	if in.Document.UKI.Size > maxUKI {
		return fmt.Errorf("the boot file has %d bytes, the limit is %d", in.Document.UKI.Size, int64(maxUKI))
	}
	if err := checkFileSize("pack", in.Pack, in.Document.Pack.Size); err != nil {
		return err
	}
	if m := in.Document.Medium; m != nil {
		return checkFileSize("medium's blocks", in.MediumBlocks, m.Blocks.Size)
	}
	return nil
}

// mediumMap is the map that the document names. Where it names none there must be
// none: that of no bytes.
func (in ReleaseInput) mediumMap() release.File {
	if m := in.Document.Medium; m != nil {
		return m.Map
	}
	sum := sha256.Sum256(nil)
	return release.File{SHA256: hex.EncodeToString(sum[:])}
}

func checkFileSize(what, path string, want int64) error {
	info, err := os.Stat(path)
	if err == nil && info.Size() != want {
		err = fmt.Errorf("the %s %q has %d bytes, and the document says %d", what, path, info.Size(), want)
	}
	return err
}

// putCompressed stores a file as one zstd stream. In one pass it is read,
// given to sum, compressed, hashed and written.
func (l *Layout) putCompressed(ctx context.Context, mediaType, path string, size int64, sum io.Writer, report progress.Reporter) (none ocispec.Descriptor, err error) {
	f, err := openRegular(path)
	if err != nil {
		return none, err
	}
	defer f.Close()
	w, err := l.newBlob()
	if err != nil {
		return none, err
	}
	defer w.abandon()
	// One goroutine: the output must not depend on how many there are.
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return none, err
	}
	n, err := io.Copy(io.MultiWriter(z, sum), &countingReader{ctx: ctx, r: f, report: report})
	if err == nil {
		err = z.Close()
	}
	switch {
	case err != nil:
		return none, fmt.Errorf("compressing %q: %w", path, err)
	case n != size:
		return none, fmt.Errorf("%q has %d bytes, and the document says %d", path, n, size)
	}
	return w.commit(mediaType)
}

// putArtifact writes the release artifact, and returns it as the index lists it.
func (l *Layout) putArtifact(in ReleaseInput, image ocispec.Descriptor, document []byte, erofs, uki ocispec.Descriptor) (none ocispec.Descriptor, err error) {
	empty := ocispec.DescriptorEmptyJSON
	config, err := l.PutBlob(empty.MediaType, bytes.NewReader(empty.Data))
	if err != nil {
		return none, err
	}
	var layers []ocispec.Descriptor
	add := func(desc ocispec.Descriptor, title string) {
		if desc.Annotations == nil {
			desc.Annotations = map[string]string{}
		}
		desc.Annotations[ocispec.AnnotationTitle] = title
		layers = append(layers, desc)
	}
	put := func(mediaType, title string, b []byte) {
		if err != nil {
			return
		}
		var desc ocispec.Descriptor
		desc, err = l.PutBlob(mediaType, bytes.NewReader(b))
		add(desc, title)
	}
	put(TypeRelease, "release.json", document)
	add(erofs, in.Document.Root().Role+".erofs.zst")
	add(uki, "boot.efi.zst")
	put(TypePackIndex, "pack.index", in.PackIndex)
	put(TypeSBOM, "sbom.spdx.json", in.SBOM)
	put(TypeLock, "recipe.lock", in.Lock)
	if m := in.Document.Medium; m != nil && err == nil {
		put(TypeMediumMap, "medium.map.json", in.MediumMap)
		var blocks ocispec.Descriptor
		blocks, err = l.PutBlobFile(TypeMediumBlocks, in.MediumBlocks, digest.NewDigestFromEncoded(digest.SHA256, m.Blocks.SHA256))
		add(blocks, "medium.blocks")
	}
	if err != nil {
		return none, err
	}
	subject := plainDescriptor(image)
	desc, err := l.putJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: TypeRelease,
		Config:       config,
		Layers:       layers,
		Subject:      &subject,
		Annotations:  annotations(in.Document),
	})
	// The index says what this is with an annotation, not with the newer field
	// artifactType: skopeo 1.9 (Debian 12) writes an index that it copies anew
	// without the fields that it does not know, and the digest would change.
	desc.Annotations = map[string]string{annotationArtifact: TypeRelease, annotationZstd: "true"}
	// Container tools choose by platform, and must not choose this one.
	desc.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	return desc, err
}

// putJSON stores a manifest, index or config.
func (l *Layout) putJSON(mediaType string, v any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return l.PutBlob(mediaType, bytes.NewReader(b))
}

// countingReader reports what it reads, and ends when ctx does.
type countingReader struct {
	ctx    context.Context
	r      io.Reader
	report progress.Reporter
}

func (c *countingReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.r.Read(p)
	c.report.Add(int64(n))
	return n, err
}
