package compose

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/publish/recipe"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// newRoot makes a publisher's keys, and returns the path of their root.json.
func newRoot(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	_, err := trust.Init(t.Context(), dir, trust.InitOptions{
		Holders: 1, Threshold: 1, Passphrase: func(trust.Ask) ([]byte, error) { return []byte("swordfish"), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "root.json")
}

// TestTrustRoot: the publisher's root is in the image, byte for byte, and nothing
// else can take its place.
func TestTrustRoot(t *testing.T) {
	path := newRoot(t)
	root, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, tr := newBuilder(t, &recipe.Recipe{Trust: recipe.Trust{Root: path}})
	if err := b.addTrust(tr); err != nil {
		t.Fatal(err)
	}
	if got := contentOf(t, tr, rootPath); got != string(root) {
		t.Errorf("the image has %q", got)
	}
	b, tr = newBuilder(t, nil)
	if err := b.addTrust(tr); err != nil || tr.Lookup(rootPath) != nil {
		t.Errorf("without a root: %v", err)
	}
	dir := filepath.Dir(path)
	for name, want := range map[string]string{
		"targets.key": `targets.key": `, "missing.json": "no such file", "changed.json": "not signed by enough of its holders",
	} {
		if name == "changed.json" {
			changed := strings.Replace(string(root), `"version":1`, `"version":2`, 1)
			if err := os.WriteFile(filepath.Join(dir, name), []byte(changed), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		b, tr := newBuilder(t, &recipe.Recipe{Trust: recipe.Trust{Root: filepath.Join(dir, name)}})
		if err := b.addTrust(tr); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "trust.root") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
