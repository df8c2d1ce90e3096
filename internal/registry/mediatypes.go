package registry

import (
	"encoding/json"
	"mime"
	"net/http"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of what a release artifact holds; docs/registry.md describes it.
const (
	TypeRelease   = "application/vnd.ashlar.release.v1+json" // the artifact, and its document
	TypeEROFS     = "application/vnd.ashlar.image.v1.erofs+zstd"
	TypeUKI       = "application/vnd.ashlar.uki.v1+zstd"
	TypePackIndex = "application/vnd.ashlar.pack-index.v1"
	TypeSBOM      = "application/spdx+json"
	TypeLock      = "application/vnd.ashlar.lock.v1"

	TypeMediumMap    = "application/vnd.ashlar.medium-map.v1+json" // where a medium was made
	TypeMediumBlocks = "application/vnd.ashlar.medium-blocks.v1"
)

// Media types of the artifact with the signed metadata, and of its files.
const (
	TypeTrust    = "application/vnd.ashlar.trust.v1"
	TypeMetadata = "application/vnd.tuf.metadata.v1+json"
)

// TagTrust names the artifact with the signed metadata of a repository.
const TagTrust = "ashlar-trust"

// Manifests of Docker's older kind are read too, as base images may have them.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

var acceptManifests = strings.Join([]string{
	ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, dockerList, dockerManifest,
}, ", ")

func isIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == dockerList
}

func isManifest(mediaType string) bool {
	return isIndex(mediaType) || mediaType == ocispec.MediaTypeImageManifest || mediaType == dockerManifest
}

// mediaType is what a manifest says it is, or else what the server says.
func mediaType(header http.Header, body []byte) string {
	var said struct {
		MediaType string `json:"mediaType"`
	}
	if json.Unmarshal(body, &said) == nil && said.MediaType != "" {
		return said.MediaType
	}
	t, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

// digestOnly is reference if it is a digest, and "" if it is a tag.
func digestOnly(reference string) string {
	if strings.Contains(reference, ":") {
		return reference
	}
	return ""
}
