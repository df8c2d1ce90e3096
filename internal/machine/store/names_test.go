package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// TestLeftovers: what a run that was cut leaves goes, by its name; what has another
// name is told, and stays, however much it looks like one of ours.
func TestLeftovers(t *testing.T) {
	s := newStore(t)
	image := verity.Digest{7}
	if err := s.WriteDeployment(deployment("1.0", image)); err != nil {
		t.Fatal(err)
	}
	dir := "deployments/" + image.String() + "/"
	object := verity.SumBytes([]byte("x")).String()
	left := []string{
		"tmp/batch-1/5", "tmp/removed-2/x", "tmp/image-abc", "tmp/boot-abc", ".tmp-boots.json-123", ".tmp-var.key-1",
		dir + ".tmp-deployment.json-1", dir + ".tmp-release.json-2", dir + ".tmp-aside.json-3", dir + ".tmp-failure-4", dir + ".tmp-etc.json-5",
	}
	ours := []string{
		"history", "history.1", "boots.json", "unsealed", "lock", "var.json", "var.key", "images/" + image.String(), "objects/" + object[:2] + "/" + object[2:],
		dir + "failure", dir + "aside.json", dir + "release.json", dir + "etc/passwd", dir + "etc/.tmp-x-1", dir + "etc.new/x", dir + "work/x",
		"var/anything", "trust/server/current",
	}
	upper := strings.ToUpper(verity.Digest{0xab}.String())
	unknown := []string{
		".tmp-boots.json", ".tmp-boots.json-x", ".tmp-mine-1", "notes", dir + "notes", dir + ".tmp-notes-1",
		"deployments/notes", "deployments/.tmp-deployment.json-1", "images/.tmp-1", "images/" + upper, "objects/ab/notes", "objects/AB", "objects/x",
	}
	for _, name := range slices.Concat(left, ours, unknown) {
		path := filepath.Join(s.Dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(s.Dir, ".tmp-boots.json-9")); err != nil {
		t.Fatal(err)
	}
	want := append([]string{".tmp-boots.json-9"}, unknown...)
	slices.Sort(want)

	got, err := s.Unknown()
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("unknown are %q, want %q; %v", got, want, err)
	}
	if err := s.Clean(); err != nil {
		t.Fatal(err)
	}
	for _, name := range left {
		if _, err := os.Lstat(filepath.Join(s.Dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", name, err)
		}
	}
	for _, name := range slices.Concat(ours, unknown) {
		if _, err := os.Lstat(filepath.Join(s.Dir, name)); err != nil {
			t.Errorf("not a leftover: %v", err)
		}
	}
	if got, err := s.Unknown(); err != nil || !slices.Equal(got, want) {
		t.Errorf("after that unknown are %q, want %q; %v", got, want, err)
	}
}

// TestCleanWhileWriting: who writes a file without the store's lock does not lose it
// to who cleans up meanwhile.
func TestCleanWhileWriting(t *testing.T) {
	s := newStore(t)
	path := filepath.Join(s.Dir, "boots.json")
	done := make(chan error)
	go func() {
		for range 300 {
			if err := WriteFileAtomic(path, []byte("whole"), 0o644); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for cleaned := 0; ; cleaned++ {
		if err := s.Clean(); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(path); err != nil || string(b) != "whole" || cleaned == 0 {
				t.Errorf("%q, %v, cleaned up %d times meanwhile", b, err, cleaned)
			}
			return
		default:
		}
	}
}
