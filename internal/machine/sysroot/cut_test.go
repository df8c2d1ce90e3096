package sysroot

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/crashtest"
	"github.com/ashlar-os/ashlar/internal/machine/etc"
	"github.com/ashlar-os/ashlar/internal/machine/store"
)

// TestMain lets this program play ashlar-init at one step of a boot, on the
// machine in the working directory.
func TestMain(m *testing.M) {
	var err error
	switch os.Args[0] {
	case "seal":
		err = playSeal()
	case "merge":
		err = playMerge(".")
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// attributeSealer plays the kernel: what is sealed has an attribute.
type attributeSealer struct{}

func (attributeSealer) Seal(f *os.File) error {
	return unix.Fsetxattr(int(f.Fd()), crashtest.SealAttribute, []byte{1}, 0)
}

func (attributeSealer) Measure(f *os.File) (verity.Digest, error) {
	if _, err := unix.Fgetxattr(int(f.Fd()), crashtest.SealAttribute, make([]byte, 1)); err != nil {
		return verity.Digest{}, verity.ErrNotSealed
	}
	return store.Software.Measure(f)
}

func playBoot(dir string) (*boot, error) {
	s, err := store.Open(dir)
	if err != nil {
		return nil, err
	}
	s.Sealer = attributeSealer{}
	return &boot{store: s}, nil
}

func playSeal() error {
	b, err := playBoot(".")
	if err != nil {
		return err
	}
	return b.seal()
}

var oldImage, newImage = verity.SumBytes([]byte("old")), verity.SumBytes([]byte("new"))

// playMerge merges /etc of the old deployment into the new one's; the images'
// own are directories beside the store.
func playMerge(dir string) error {
	b, err := playBoot(dir)
	if err != nil {
		return err
	}
	b.params.image = newImage
	_, err = b.mergeFrom(oldImage, func(o etc.MergeOptions) (*etc.Report, error) {
		o.BaseDir, o.TheirsDir = filepath.Join(dir, "base"), filepath.Join(dir, "theirs")
		return etc.Merge(o)
	})
	return err
}

// play records a step of a boot.
func play(t *testing.T, step, dir string) *crashtest.Log {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	log, code := crashtest.Record(t, &exec.Cmd{Path: self, Args: []string{step}, Dir: dir, Stderr: os.Stderr}, dir)
	if code != 0 {
		t.Fatalf("%s ended with %d", step, code)
	}
	return log
}

// TestFirstBootCut: at whatever moment the first boot of a disk image is cut, it
// either counts as not done, and is done again, or every file is sealed.
func TestFirstBootCut(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Create(dir)
	must(t, err)
	s.Sealer = store.Software
	for i := range 20 {
		b := bytes.Repeat([]byte{byte(i)}, 1000)
		must(t, s.PutObject(t.Context(), verity.SumBytes(b), int64(len(b)), bytes.NewReader(b)))
	}
	must(t, os.WriteFile(s.UnsealedMarker(), nil, 0o644))
	states, done := 0, 0
	play(t, "seal", dir).Trees(1, func(cut int, tree *crashtest.Tree) {
		states++
		if _, err := tree.ReadFile("unsealed"); err == nil {
			return
		}
		done++
		must(t, tree.Walk(func(name string, n *crashtest.Node) error {
			if strings.HasPrefix(name, "objects/") && !n.Dir && !n.Sealed {
				return fmt.Errorf("cut %d: %q is not sealed, and nobody will", cut, name)
			}
			return nil
		}))
	})
	if t.Logf("%d states, %d of them done", states, done); states < 50 || done == 0 {
		t.Error("these are too few")
	}
}

// TestMergeCut: at whatever moment the first boot of a deployment is cut while it
// merges /etc, the old deployment's is untouched, and the new one's is either
// complete or made anew.
func TestMergeCut(t *testing.T) {
	dir := t.TempDir()
	_, err := store.Create(dir)
	must(t, err)
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o644))
	}
	for i := range 6 {
		write(fmt.Sprintf("base/app%d/conf", i), "one\ntwo\nthree\n")
		write(fmt.Sprintf("theirs/app%d/conf", i), "one\ntwo\nthree, theirs\n")
	}
	mine, merged := "deployments/"+oldImage.String()+"/etc/", "deployments/"+newImage.String()+"/etc/"
	write(mine+"app0/conf", "one, mine\ntwo\nthree\n")
	write(mine+"own/secret", "mine alone\n")
	write("deployments/"+newImage.String()+"/deployment.json", "{}\n")
	write(merged+"half", "of a merge that was cut earlier\n")

	log := play(t, "merge", dir)
	before, after := files(t, crashtest.Load(t, dir), mine), files(t, crashtest.Load(t, dir), merged)
	if after["app0/conf"] != "one, mine\ntwo\nthree, theirs\n" || after["own/secret"] != "mine alone\n" || after["half"] != "" {
		t.Fatalf("it is merged as %q", after)
	}
	states, done := 0, 0
	again := make(map[string]*crashtest.Tree)
	log.Trees(1, func(cut int, tree *crashtest.Tree) {
		states++
		if got := files(t, tree, mine); !maps.Equal(got, before) {
			t.Fatalf("cut %d: the old deployment's /etc is %q", cut, got)
		}
		if _, err := tree.ReadFile("deployments/" + newImage.String() + "/etc.json"); err == nil {
			done++
			if got := files(t, tree, merged); !maps.Equal(got, after) {
				t.Fatalf("cut %d: it counts as merged, and is %q", cut, got)
			}
			return
		}
		again[fmt.Sprint(slices.Sorted(maps.Keys(files(t, tree, "deployments/"+newImage.String()+"/"))))] = tree
	})
	for what, tree := range again {
		dir := t.TempDir()
		tree.Store(t, dir)
		must(t, playMerge(dir))
		if got := files(t, crashtest.Load(t, dir), merged); !maps.Equal(got, after) {
			t.Errorf("after a cut that left %s it is merged as %q", what, got)
		}
	}
	if t.Logf("%d states, %d of them done; merged again from %d", states, done, len(again)); states < 100 || done == 0 || len(again) < 5 {
		t.Error("these are too few")
	}
}

// files are the regular files below a directory.
func files(t *testing.T, tree *crashtest.Tree, dir string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	must(t, tree.Walk(func(name string, n *crashtest.Node) error {
		if rest, ok := strings.CutPrefix(name, dir); ok && !n.Dir {
			found[rest] = string(n.Data)
		}
		return nil
	}))
	return found
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
