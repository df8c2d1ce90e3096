package update

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// TestHostileAnswers: metadata of a gigabyte, without an end, a byte at a time.
func TestHostileAnswers(t *testing.T) {
	w, _ := newWorld(t)
	w.publish("2.0.0")
	metadata := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/manifests/"+registry.TagTrust) }
	body := []byte("{}")
	list, err := json.Marshal(ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, ArtifactType: registry.TypeTrust, Config: ocispec.DescriptorEmptyJSON,
		Layers: []ocispec.Descriptor{{
			MediaType: registry.TypeMetadata, Digest: digest.FromBytes(body), Size: 1 << 30,
			Annotations: map[string]string{ocispec.AnnotationTitle: "timestamp.json"}}},
	})
	w.must(err)
	w.site.Instead = func(rw http.ResponseWriter, r *http.Request) bool {
		if metadata(r) {
			rw.Write(bytes.Replace(list, []byte(`"schemaVersion":0`), []byte(`"schemaVersion":2`), 1))
		}
		return metadata(r)
	}
	w.refused(Untrusted, `cannot trust H: reading the signatures of H: field "layers[0]" of tag "ashlar-trust": file "timestamp.json" has 1073741824 bytes, the limit is 8388608`)

	w.site.Instead = func(rw http.ResponseWriter, r *http.Request) bool {
		for chunk := make([]byte, 1<<20); metadata(r); {
			if _, err := rw.Write(chunk); err != nil {
				return true
			}
		}
		return false
	}
	w.refused(Untrusted, `cannot trust H: reading the signatures of H: it is larger than 4194304 bytes`)

	w.site.Instead = func(rw http.ResponseWriter, r *http.Request) bool {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for r.Context().Err() == nil {
			<-tick.C
			if _, err := rw.Write([]byte(" ")); err != nil {
				break
			}
			http.NewResponseController(rw).Flush() //nolint:errcheck // who went away is gone
		}
		return true
	}
	slow, _, err := registry.Open(w.site.Repository, registry.Options{Request: 300 * time.Millisecond, Retries: -1})
	w.must(err)
	if _, err := w.machine().Check(context.Background(), slow, w.wanted()); err == nil || VerdictOn(err) != Unreachable ||
		w.anonymous(err) != `cannot reach the repository: reading the signatures of H: the server takes longer than 300ms for a small request` {
		t.Errorf("a trickle: %v", err)
	}

	w.site.Instead = func(rw http.ResponseWriter, r *http.Request) bool {
		io.WriteString(rw, "<html>Welcome to the hotel</html>") //nolint:errcheck // who went away is gone
		return true
	}
	w.refused(Untrusted, `cannot trust H: reading the signatures of H: tag "ashlar-trust" is not signed metadata but "text/html"`)
	w.site.Instead = nil
	w.site.Repository = "127.0.0.1:1/acme/server"
	w.refused(Unreachable, `cannot reach the repository: reading the signatures of H: dial tcp 127.0.0.1:1: connect: connection refused (tried 4 times)`)
}

// TestBombs: what expands without an end, in the image and in the pack.
func TestBombs(t *testing.T) {
	w, _ := newWorld(t)
	w.publish("2.0.0")
	signed := w.artifact("2.0.0")
	encoder, err := zstd.NewWriter(nil)
	w.must(err)
	bomb := encoder.EncodeAll(make([]byte, 256<<20), nil)
	// As long as what it stands for, or a prefix of it: 256 MB are 8 KB.
	short := func(n int64) []byte {
		b := make([]byte, n)
		copy(b, bomb)
		return b
	}
	w.replace(signed.EROFS.Digest, func(b []byte) []byte { return short(int64(len(b))) })
	w.refused("", fmt.Sprintf(`cannot stage server-2.0.0: fetching the image: D decompresses to more than the %d bytes that the document says`, signed.Document.Root().Size))

	pack := digest.NewDigestFromEncoded(digest.SHA256, signed.Document.Pack.SHA256)
	w.replace(pack, func(b []byte) []byte { return short(int64(len(b))) })
	w.refusedLike("", `cannot stage server-2.0.0: bytes 0\+\d+ of D: extracting object "D": frame 0: it says that it has 268435456 bytes, the index says \d+`)
}

// TestHostileIndex: an index that its publisher signed, and that lies about
// where objects are. Package pack has every way; this is that it stops there.
func TestHostileIndex(t *testing.T) {
	for sentence, spoil := range map[string]func([]byte) []byte{
		`cannot stage server-2.0.0: reading the pack's index: pack index: place of object "D": the index ends in the middle of a number`: func(b []byte) []byte { return b[:len(b)-1] },
		`cannot stage server-2.0.0: reading the pack's index: pack index: it does not begin with "ashpack1"`:                             func([]byte) []byte { return []byte("x") },
	} {
		w, _ := newWorld(t)
		w.site.Publish(updatetest.Spec{Name: "server", Version: "2.0.0", Index: spoil})
		w.refused("", sentence)
	}
}

// TestNamesStayInTheImage: whatever an image holds, a machine writes objects by
// their digest, and nothing else: devices, links and names are the image's.
func TestNamesStayInTheImage(t *testing.T) {
	w, _ := newWorld(t)
	target := filepath.Join(t.TempDir(), "victim")
	w.must(os.WriteFile(target, []byte("mine"), 0o644))
	v2 := w.site.Publish(updatetest.Spec{Name: "server", Version: "2.0.0", Tree: func(image *tree.Tree) {
		image.Root.Add(&tree.Node{Name: "disk", Mode: tree.TypeBlock | 0o666, Rdev: 0x800, Nlink: 1})
		image.Root.Add(&tree.Node{Name: "memory", Mode: tree.TypeChar | 0o4777, Rdev: 0x101, Nlink: 1})
		image.Root.Add(&tree.Node{Name: "out", Mode: tree.TypeSymlink | 0o777, Target: target, Size: uint64(len(target)), Nlink: 1})
		up := strings.Repeat("../", 40) + target
		image.Root.Add(&tree.Node{Name: "up", Mode: tree.TypeSymlink | 0o777, Target: up, Size: uint64(len(up)), Nlink: 1})
	}})
	w.takes(v2)
	w.must(filepath.WalkDir(w.c.Root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.Type().IsRegular() && !e.IsDir() && e.Name() != "current" {
			t.Errorf("%q is %s", path, e.Type())
		}
		return err
	}))
	if b, err := os.ReadFile(target); err != nil || string(b) != "mine" {
		t.Errorf("what a link led to: %q, %v", b, err)
	}
}
