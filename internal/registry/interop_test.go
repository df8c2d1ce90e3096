package registry

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The registry is Debian's docker-registry 2.8, which has no referrers API;
// the clients are skopeo, podman and our own.

func TestPublishedToARealRegistry(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t, "1.0.0", 1<<20).written(t, "", "stable")
	address := startDockerRegistry(t)
	remote := openTest(t, address+"/acme/server")

	plan, err := PlanPublish(ctx, PublishOptions{From: f.layout.Repository(), To: remote, Tag: "stable", Channel: "stable"})
	must(t, err)
	if plan.Before != "" || !plan.Moves || plan.Version != "1.0.0" {
		t.Errorf("plan for an empty repository: %+v", plan)
	}
	first, err := plan.Apply(ctx, nil)
	must(t, err)
	if first.Blobs == 0 || first.Present != 0 {
		t.Errorf("first copy: %+v", first)
	}
	tags, err := remote.Tags(ctx)
	must(t, err)
	if !slices.Contains(tags, "1.0.0") || !slices.Contains(tags, "stable") {
		t.Errorf("tags %q", tags)
	}
	f.checkRelease(t, remote, "stable")
	f.checkRelease(t, remote, "1.0.0")
	// This registry has no referrers API: the list is under a tag, which is no release.
	if list := "sha256-" + strings.TrimPrefix(f.imageDigest, "sha256:"); !slices.Contains(tags, list) {
		t.Errorf("tags %q lack %q", tags, list)
	}
	if tag, err := remote.SoleRelease(ctx, ""); err != nil || tag != "1.0.0" {
		t.Errorf("the only release: %q, %v", tag, err)
	}

	again, err := Copy(ctx, f.layout.Repository(), remote, "stable", "stable", nil)
	must(t, err)
	if again.Blobs != 0 || again.Bytes != 0 || again.Present != first.Blobs {
		t.Errorf("second copy sent something: %+v", again)
	}

	// From the registry to a directory: the same digests.
	back, _, err := Open("oci:"+filepath.Join(t.TempDir(), "back"), Options{Create: true})
	must(t, err)
	_, err = Copy(ctx, remote, back, "stable", "stable", nil)
	must(t, err)
	f.checkRelease(t, back, "stable")

	t.Run("skopeo inspect", func(t *testing.T) {
		var said struct {
			Digest string
			Os     string
			Layers []string
			Labels map[string]string
		}
		out := run(t, "skopeo", "inspect", "--tls-verify=false", "docker://"+remote.Name+":stable")
		must(t, json.Unmarshal([]byte(out), &said))
		if said.Digest != f.index.Digest.String() || said.Os != "linux" || said.Labels["org.ashlar.test"] != "yes" ||
			len(said.Layers) != 1 || said.Layers[0] != "sha256:"+f.doc.Pack.SHA256 {
			t.Errorf("skopeo inspect says %s", out)
		}
	})
	t.Run("skopeo copy out and in", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "copy")
		run(t, "skopeo", "copy", "--all", "--src-tls-verify=false", "docker://"+remote.Name+":stable", "oci:"+dir+":stable")
		copied, tag, err := Open(dir+":stable", Options{})
		must(t, err)
		f.checkRelease(t, copied, tag)
		run(t, "skopeo", "copy", "--all", "--dest-tls-verify=false", "oci:"+f.dir+":1.0.0", "docker://"+address+"/other/server:1.0.0")
		f.checkRelease(t, openTest(t, address+"/other/server"), "1.0.0")
	})
	t.Run("podman", func(t *testing.T) {
		checkPodman(t, f, remote.Name+":stable")
	})
}

// TestTrustWithRealPeers: the signed metadata in docker-registry, and copied by
// skopeo from there to another repository and to a directory.
func TestTrustWithRealPeers(t *testing.T) {
	ctx := context.Background()
	address := startDockerRegistry(t)
	remote := openTest(t, address+"/acme/server")
	if _, err := remote.ReadTrust(ctx); !errors.Is(err, ErrNoTrust) || errors.Is(err, ErrUnreachable) {
		t.Errorf("an unsigned repository: %v", err)
	}
	first := metadata(1)
	must(t, remote.WriteTrust(ctx, first, nil))
	before, err := remote.ReadTrust(ctx)
	must(t, err)
	must(t, remote.WriteTrust(ctx, metadata(2), before))

	source := "docker://" + remote.Name + ":" + TagTrust
	dir := filepath.Join(t.TempDir(), "copy")
	run(t, "skopeo", "copy", "--src-tls-verify=false", source, "oci:"+dir+":"+TagTrust)
	run(t, "skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", source, "docker://"+address+"/mirror/server:"+TagTrust)
	run(t, "skopeo", "sync", "--src-tls-verify=false", "--dest-tls-verify=false", "--src", "docker", "--dest", "docker", remote.Name, address+"/sync")
	for _, ref := range []string{remote.Name, address + "/mirror/server", "oci:" + dir, address + "/sync/server"} {
		checkTrust(t, openTest(t, ref), metadata(2), first["1.root.json"])
	}
}

// checkPodman lets podman, with a storage of its own, pull an image and make a
// container, and compares what is in it. (Not `podman image mount`: that needs root.)
func checkPodman(t *testing.T, f *fixture, image string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "pm") // podman wants short paths
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	podman := func(args ...string) string {
		t.Helper()
		return run(t, append([]string{"podman", "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"),
			"--storage-driver", "vfs", "--events-backend", "none"}, args...)...)
	}
	podman("pull", "--quiet", "--tls-verify=false", image)
	container := strings.TrimSpace(podman("create", image, "true"))
	files := tar.NewReader(strings.NewReader(podman("export", container)))
	found := map[string]string{}
	for {
		h, err := files.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		content, err := io.ReadAll(files)
		must(t, err)
		found[h.Name] = string(content) + h.Linkname
	}
	for name, want := range f.files {
		if found[name] != want {
			t.Errorf("%q in the container: %d bytes, want %d", name, len(found[name]), len(want))
		}
	}
	if found["etc"] != "usr/lib" {
		t.Errorf("link etc in the container: %q", found["etc"])
	}
	podman("rm", container)
}

// TestOwnServerWithRealClients: the embedded server under skopeo and podman.
func TestOwnServerWithRealClients(t *testing.T) {
	f := newFixture(t, "1.0.0", 1<<20).written(t, "", "stable")
	server, address := startServer(t, f.dir, ServerOptions{})
	f.checkRelease(t, openTest(t, address+"/any/name"), "stable")

	out := run(t, "skopeo", "inspect", "--raw", "--tls-verify=false", "docker://"+address+"/acme/server:stable")
	var index ocispec.Index
	must(t, json.Unmarshal([]byte(out), &index))
	if len(index.Manifests) != 2 || index.Manifests[0].Platform.Architecture != "amd64" || index.Manifests[1].Annotations[annotationArtifact] != TypeRelease {
		t.Errorf("the index is %s", out)
	}
	dir := filepath.Join(t.TempDir(), "copy")
	run(t, "skopeo", "copy", "--all", "--src-tls-verify=false", "docker://"+address+"/acme/server:stable", "oci:"+dir+":stable")
	copied, _, err := Open("oci:"+dir, Options{})
	must(t, err)
	f.checkRelease(t, copied, "stable")

	checkPodman(t, f, address+"/acme/server:stable")
	if s := server.Stats(); s.Requests == 0 || s.Bytes < int64(len(f.pack)) {
		t.Errorf("the server counted %+v", s)
	}
}
