package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// WriteTrust adds files to the signed metadata of the repository, and lists
// them with those that previous has (nil: the repository has none yet). Of each
// role the newest version stays, of root every one: a machine that was off
// for long follows them one by one.
//
// It refuses when the metadata has changed since previous was read. Registries
// cannot compare and set, so two that write in the same second are not told
// apart; machines then take one of the two, whole, and the next publisher who
// reads finds out.
//
// The files are there before the tag names them.
func (r *Repository) WriteTrust(ctx context.Context, files map[string][]byte, previous *Trust) error {
	if err := r.writeTrust(ctx, files, previous); err != nil {
		return fmt.Errorf("writing the signatures of %s: %w", r.Name, err)
	}
	return nil
}

func (r *Repository) writeTrust(ctx context.Context, files map[string][]byte, previous *Trust) error {
	if err := r.unchangedTrust(ctx, previous); err != nil {
		return err
	}
	list := make(map[string]ocispec.Descriptor)
	if previous != nil {
		if previous.repo.Name != r.Name {
			return fmt.Errorf("the signatures before are of %s", previous.repo.Name)
		}
		maps.Copy(list, previous.files)
	}
	for name, b := range files {
		if !metadataName.MatchString(name) || len(b) > maxMetadata {
			return fmt.Errorf("%q (%d bytes) cannot be a file of metadata", name, len(b))
		}
		list[name] = ocispec.Descriptor{MediaType: TypeMetadata, Digest: digest.FromBytes(b), Size: int64(len(b))}
	}
	forgetOlder(list)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if desc, ok := list[name]; ok {
			if err := r.putBytes(ctx, desc, files[name]); err != nil {
				return fmt.Errorf("file %q: %w", name, err)
			}
		}
	}
	desc, body, err := trustManifest(list, files)
	if err != nil {
		return err
	}
	config := ocispec.DescriptorEmptyJSON
	if err := r.putBytes(ctx, plainDescriptor(config), config.Data); err != nil {
		return err
	}
	return r.place.putManifest(ctx, desc, body, TagTrust)
}

// unchangedTrust refuses when somebody else has written meanwhile.
func (r *Repository) unchangedTrust(ctx context.Context, previous *Trust) error {
	now, err := r.place.resolve(ctx, TagTrust)
	switch {
	case errors.Is(err, ErrNotFound) && previous == nil:
		return nil
	case err != nil && !errors.Is(err, ErrNotFound):
		return err
	case err == nil && previous != nil && now.Digest == previous.Manifest.Digest:
		return nil
	}
	return &RefusedError{
		err:  errors.New("they have changed since they were read: somebody else is publishing"),
		hint: "run the same again; what is published meanwhile is kept",
	}
}

// forgetOlder removes from list what a newer version of the same role replaces.
func forgetOlder(list map[string]ocispec.Descriptor) {
	newest := make(map[string]uint64)
	for name := range list {
		version, role := splitMetadataName(name)
		newest[role] = max(newest[role], version)
	}
	maps.DeleteFunc(list, func(name string, _ ocispec.Descriptor) bool {
		version, role := splitMetadataName(name)
		return role != "root" && version < newest[role]
	})
}

// splitMetadataName splits "7.targets.json"; the version of "timestamp.json" is 0.
func splitMetadataName(name string) (version uint64, role string) {
	role = strings.TrimSuffix(name, ".json")
	if number, rest, ok := strings.Cut(role, "."); ok {
		version, _ = strconv.ParseUint(number, 10, 64)
		role = rest
	}
	return version, role
}

// trustManifest writes the artifact's manifest. What every check looks at is in
// it, so that a check which finds nothing new is this one request; of files
// that were there before, list has their descriptors, with what is in them.
func trustManifest(list map[string]ocispec.Descriptor, files map[string][]byte) (desc ocispec.Descriptor, body []byte, err error) {
	config := plainDescriptor(ocispec.DescriptorEmptyJSON)
	m := ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: TypeTrust,
		Config:       config,
		Annotations:  map[string]string{annotationArtifact: TypeTrust},
	}
	for _, name := range slices.Sorted(maps.Keys(list)) {
		layer := list[name]
		_, role := splitMetadataName(name)
		if b, ok := files[name]; ok && (role == "timestamp" || role == "snapshot") && len(b) <= maxEmbedded {
			layer.Data = b
		}
		layer.Annotations = map[string]string{ocispec.AnnotationTitle: name}
		m.Layers = append(m.Layers, layer)
	}
	if len(m.Layers) == 0 || len(m.Layers) > maxLayers {
		return desc, nil, fmt.Errorf("it would list %d files, the limit is %d", len(m.Layers), maxLayers)
	}
	if body, err = json.Marshal(m); err != nil {
		return desc, nil, err
	}
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}, body, nil
}

// putBytes stores a small blob that is not there yet.
func (r *Repository) putBytes(ctx context.Context, desc ocispec.Descriptor, b []byte) error {
	if there, err := r.place.exists(ctx, desc); err != nil || there {
		return err
	}
	return r.place.putBlob(ctx, desc, func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b)), nil
	})
}
