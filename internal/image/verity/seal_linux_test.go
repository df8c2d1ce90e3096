package verity

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestSeal seals a file where kernel and file system can, and checks what they
// say where they cannot; the stories in virtual machines do the former.
func TestSeal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content(10_000), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Measure(f); !errors.Is(err, ErrNotSealed) && !errors.Is(err, ErrUnsupported) {
		t.Errorf("Measure of a file that is not sealed says %v", err)
	}
	switch err := Enable(f); {
	case errors.Is(err, ErrUnsupported):
		if _, err := Measure(f); err == nil {
			t.Error("a file that could not be sealed has a digest")
		}
	case err != nil:
		t.Errorf("Enable says %v", err)
	default:
		if d, err := Measure(f); err != nil || d != SumBytes(content(10_000)) {
			t.Errorf("Measure = %s, %v, want %s", d, err, SumBytes(content(10_000)))
		}
		if err := Enable(f); err != nil {
			t.Errorf("sealing a sealed file: %v", err)
		}
		if w, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
			w.Close()
			t.Error("a sealed file can be opened for writing")
		}
	}
}
