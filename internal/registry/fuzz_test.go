package registry

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const seedDescriptor = `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` +
	`44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"annotations":{"org.ashlar.artifact":"application/vnd.ashlar.release.v1+json"}}`

// checkParsed: whatever is accepted has digests that are safe as file names, and sizes within limits.
func checkParsed(t *testing.T, descs []ocispec.Descriptor, limit int64) {
	for _, d := range descs {
		if len(d.Digest.Encoded()) != 64 || strings.Trim(d.Digest.Encoded(), "0123456789abcdef") != "" || d.Size < 0 || d.Size > limit {
			t.Errorf("accepted %+v", d)
		}
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[` + seedDescriptor + `]}`))
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[` + seedDescriptor + `,` + seedDescriptor + `]}`))
	f.Add([]byte(`{"schemaVersion":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		index, err := parseIndex(b)
		if err != nil {
			return
		}
		checkParsed(t, index.Manifests, maxManifest)
		findArtifact(index)
	})
}

func FuzzManifest(f *testing.F) {
	seed, _ := json.Marshal(newFixtureManifest())
	f.Add(seed)
	f.Add([]byte(`{"schemaVersion":2,"config":` + seedDescriptor + `,"layers":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(b)
		if err != nil {
			return
		}
		checkParsed(t, append([]ocispec.Descriptor{m.Config}, m.Layers...), maxBlob)
		var rel Release
		if m.Subject != nil {
			checkParsed(t, []ocispec.Descriptor{*m.Subject}, maxManifest)
		}
		if _, err := rel.takeLayers(m); err == nil {
			checkParsed(t, []ocispec.Descriptor{rel.EROFS}, compressedLimit(maxEROFS))
			checkParsed(t, []ocispec.Descriptor{rel.UKI}, compressedLimit(maxUKI))
			checkParsed(t, []ocispec.Descriptor{rel.PackIndex, rel.SBOM, rel.Lock}, maxSBOM)
		}
	})
}

func FuzzTrust(f *testing.F) {
	for _, name := range []string{"1.root.json", "timestamp.json", "../timestamp.json"} {
		body := []byte(`{"signed":{"version":7}}`)
		desc := ocispec.Descriptor{MediaType: TypeMetadata, Digest: digest.FromBytes(body), Size: int64(len(body))}
		_, manifest, err := trustManifest(map[string]ocispec.Descriptor{name: desc}, map[string][]byte{name: body})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(manifest)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		files, err := parseTrust(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest}, b)
		if err != nil {
			return
		}
		for name, desc := range files {
			checkParsed(t, []ocispec.Descriptor{desc}, maxMetadata)
			if filepath.Base(name) != name || len(name) > 100 {
				t.Errorf("name %q", name)
			}
			if desc.Data != nil && digest.FromBytes(desc.Data) != desc.Digest {
				t.Errorf("%q has other data", name)
			}
		}
	})
}

// newFixtureManifest is a release artifact with all its layers.
func newFixtureManifest() ocispec.Manifest {
	var desc ocispec.Descriptor
	if err := json.Unmarshal([]byte(seedDescriptor), &desc); err != nil {
		panic(err)
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: TypeRelease, Config: desc, Subject: &desc}
	m.SchemaVersion = 2
	for _, t := range []string{TypeRelease, TypeEROFS, TypeUKI, TypePackIndex, TypeSBOM, TypeLock} {
		layer := desc
		layer.MediaType = t
		m.Layers = append(m.Layers, layer)
	}
	return m
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-9/10")
	f.Add("bytes 1-2/*")
	f.Add("bytes -1-2/+3")
	f.Fuzz(func(t *testing.T, s string) {
		first, last, total, ok := parseContentRange(s)
		if ok && (first < 0 || last < 0 || total < -1 || strings.ContainsAny(s, "+ \t") && !strings.HasPrefix(s, "bytes ")) {
			t.Errorf("%q: %d %d %d", s, first, last, total)
		}
	})
}

func FuzzServerPath(f *testing.F) {
	f.Add("acme/server/manifests/stable")
	f.Add("a/../b/blobs/sha256:0")
	f.Fuzz(func(t *testing.T, s string) {
		name, kind, last, ok := splitPath(s)
		if ok && isRepository(name) && (strings.Contains(name, "..") || strings.HasPrefix(name, "/") || strings.Contains(last, "/") || kind == "") {
			t.Errorf("%q: %q %q %q", s, name, kind, last)
		}
	})
}
