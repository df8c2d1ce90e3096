package diskimage

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// imageWith is a tree with an update.toml, inline or as an object in dir.
func imageWith(t *testing.T, dir, text string, inline bool) *tree.Tree {
	t.Helper()
	n := &tree.Node{Name: "update.toml", Mode: tree.TypeRegular | 0o644, Size: uint64(len(text))}
	if inline {
		n.Inline = []byte(text)
	} else {
		n.Digest = verity.SumBytes([]byte(text))
		put(t, filepath.Join(dir, objectName(n.Digest)), []byte(text))
	}
	for _, name := range []string{"ashlar", "lib", "usr", ""} {
		parent := &tree.Node{Name: name, Mode: tree.TypeDir | 0o755}
		parent.Add(n)
		n = parent
	}
	return &tree.Tree{Root: n}
}

func TestReadOriginTakesWhatTheRecipeSaid(t *testing.T) {
	const text = "repository = \"registry.example/acme/web\"\nchannel = \"testing\"\ninterval = \"6h\"\n"
	for _, inline := range []bool{true, false} {
		dir := t.TempDir()
		got, err := readOrigin(imageWith(t, dir, text, inline), dir)
		want := Origin{Repository: "registry.example/acme/web", Channel: "testing"}
		if err != nil || got != want {
			t.Errorf("inline %v: got %v, %v", inline, got, err)
		}
	}
}

func TestReadOriginOfAnImageThatSaysNothing(t *testing.T) {
	got, err := readOrigin(&tree.Tree{Root: &tree.Node{Mode: tree.TypeDir | 0o755}}, t.TempDir())
	if err != nil || got != (Origin{}) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestReadOriginNamesTheFileThatIsWrong(t *testing.T) {
	dir := t.TempDir()
	_, err := readOrigin(imageWith(t, dir, "repository = [", true), dir)
	if err == nil || !strings.Contains(err.Error(), updatePath) {
		t.Errorf("got %v", err)
	}
	_, err = readOrigin(imageWith(t, dir, strings.Repeat("#", maxUpdate+1), false), dir)
	if err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("got %v", err)
	}
}
