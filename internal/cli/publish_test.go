package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// writeTestRelease writes a small release, tagged by its version, into the layout
// in dir. Its image knows no keys.
func writeTestRelease(t *testing.T, dir, version string) {
	t.Helper()
	content := []byte("release " + version)
	sum := sha256.Sum256(content)
	file := release.File{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(content))}
	root := &tree.Node{Mode: tree.TypeDir | 0o755, Nlink: 1}
	root.Add(&tree.Node{Name: "version", Mode: tree.TypeRegular | 0o644, Nlink: 1, Size: uint64(len(content)), Inline: content})
	var image bytes.Buffer
	if err := composefs.Write(&image, &tree.Tree{Root: root}, composefs.Options{}); err != nil {
		t.Fatal(err)
	}
	paths := map[string]string{}
	for name, b := range map[string][]byte{"erofs": image.Bytes(), "uki": content, "pack": content} {
		paths[name] = filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(paths[name], b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	layout, err := registry.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = layout.WriteRelease(context.Background(), registry.ReleaseInput{
		Document: &release.Document{
			Schema: release.Schema, ID: "server-" + version, Name: "server", Version: version, Architecture: "amd64",
			Created: "2026-01-31T12:00:00Z",
			Images:  []release.Image{{Role: release.RoleRoot, Digest: verity.SumBytes(image.Bytes()), Size: int64(image.Len())}},
			UKI:     file, Pack: file, PackIndex: file, SBOM: file, Lock: file, RuleSet: release.RuleSet, Builder: "test",
		},
		EROFS: paths["erofs"], UKI: paths["uki"], Pack: paths["pack"], DiffID: "sha256:" + file.SHA256,
		PackIndex: content, SBOM: content, Lock: content,
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPublishVerb(t *testing.T) {
	dir := t.TempDir()
	old, next, target := filepath.Join(dir, "old"), filepath.Join(dir, "next"), "oci:"+filepath.Join(dir, "target")
	writeTestRelease(t, old, "1.0.0")
	writeTestRelease(t, next, "1.1.0")
	keys := updatetest.Acme().Keyring(t).Dir()
	t.Setenv(passphraseVariable, updatetest.Passphrase)

	out, errs, code := ashlar(t, "publish", old, target, "--channel", "stable", "--keys", keys)
	if code != exitOK || !strings.Contains(out, "published server 1.0.0 to "+target+":1.0.0") || !strings.Contains(out, "stable is new") ||
		!strings.Contains(out, "the image knows no keys") {
		t.Errorf("first: %d\n%s%s", code, out, errs)
	}
	out, errs, code = ashlar(t, "publish", next, target, "--channel", "stable", "--keys", keys, "--json")
	var answer publishAnswer
	if err := json.Unmarshal([]byte(out), &answer); code != exitOK || err != nil ||
		answer.Before != "1.0.0" || !answer.Moved || answer.Copied == 0 || answer.Present == 0 || !answer.Rootless || len(answer.Signed.Changes) != 2 {
		t.Errorf("second: %d %v\n%s%s", code, err, out, errs)
	}
	out, errs, code = ashlar(t, "publish", old, target, "--channel", "stable", "--keys", keys)
	if code != exitError || out != "" || !strings.Contains(errs, "version 1.0.0 is older than 1.1.0") || !strings.Contains(errs, "hint: --allow-older") {
		t.Errorf("older: %d\n%s%s", code, out, errs)
	}
	if out, _, code := ashlar(t, "publish", old, target, "--channel", "stable", "--allow-older", "--keys", keys); code != exitOK || !strings.Contains(out, "stable moved from 1.1.0") {
		t.Errorf("older, allowed: %d\n%s", code, out)
	}
	for _, args := range [][]string{
		{"publish", old},
		{"publish", old, target},
		{"publish", old, target + ":stable", "--keys", keys},
		{"publish", old, target, "--channel", registry.TagTrust, "--keys", keys},
	} {
		if _, errs, code := ashlar(t, args...); code != exitUsage || !strings.Contains(errs, "ashlar: ") {
			t.Errorf("%q: %d %s", args, code, errs)
		}
	}
}

// TestServeVerb serves, updates a client's view while it runs, and ends when asked to.
func TestServeVerb(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	writeTestRelease(t, dir, "1.0.0")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	answers, stdout := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		code := run(ctx, []string{"serve", dir, "--listen", "127.0.0.1:0", "--log", "--json"}, &globals{stdout: stdout, stderr: io.Discard})
		stdout.Close()
		ended <- code
	}()
	var answer serveAnswer
	if err := json.NewDecoder(answers).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, answers)
	repo, _, err := registry.Open(answer.Address+"/acme/server", registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.ReadRelease(context.Background(), "1.0.0"); err != nil {
		t.Error(err)
	}
	writeTestRelease(t, dir, "1.1.0")
	if rel, err := repo.ReadRelease(context.Background(), "1.1.0"); err != nil || rel.Document.Version != "1.1.0" {
		t.Errorf("the new release: %v", err)
	}
	cancel()
	if code := <-ended; code != exitOK {
		t.Errorf("it ended with %d", code)
	}
	if _, errs, code := ashlar(t, "serve", t.TempDir()); code != exitError || !strings.Contains(errs, "not an OCI layout") {
		t.Errorf("an empty directory: %d %s", code, errs)
	}
}

func TestCredentialFiles(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want []string // besides the machine's own, which is the last
	}{
		{nil, nil},
		{map[string]string{"REGISTRY_AUTH_FILE": "/a", "HOME": "/h"}, []string{"/a"}},
		{map[string]string{"XDG_RUNTIME_DIR": "/run/user/1", "HOME": "/h"},
			[]string{"/run/user/1/containers/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"}},
		{map[string]string{"XDG_CONFIG_HOME": "/c", "DOCKER_CONFIG": "/d", "HOME": "/h"}, []string{"/c/containers/auth.json", "/d/config.json"}},
	} {
		want := c.want
		if c.env["REGISTRY_AUTH_FILE"] == "" {
			want = append(want, machineCredentials)
		}
		if got := credentialFiles(func(key string) string { return c.env[key] }); !slices.Equal(got, want) {
			t.Errorf("%v: %q, want %q", c.env, got, want)
		}
	}
}
