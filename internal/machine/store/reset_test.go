package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// A reset takes what is the machine's, and nothing that is the image's.
func TestReset(t *testing.T) {
	s, err := Create(filepath.Join(t.TempDir(), "ashlar"))
	if err != nil {
		t.Fatal(err)
	}
	image := verity.SumBytes([]byte("image"))
	dep := &Deployment{Schema: Schema, Image: image, Name: "server", Version: "1.0.0", Release: "sha256:" + image.String()}
	if err := s.WriteDeployment(dep); err != nil {
		t.Fatal(err)
	}
	write := func(path string) string {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("content"), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	gone := []string{
		write(filepath.Join(s.VarPath(), "home/ada/thesis")), write(filepath.Join(s.EtcUpper(image), "hostname")),
		write(filepath.Join(s.EtcWork(image), "work")), write(s.EtcReport(image)),
	}
	stays := []string{
		write(s.ObjectPath(image)), write(s.ImagePath(image)), write(filepath.Join(s.TrustPath(), "server/current")),
		write(filepath.Join(s.Dir, "history")), filepath.Join(s.DeploymentPath(image), "deployment.json"),
	}
	check := func(want bool) {
		t.Helper()
		for _, path := range gone {
			if _, err := os.Lstat(path); (err == nil) != want {
				t.Errorf("%q: %v", path, err)
			}
		}
		for _, path := range stays {
			if _, err := os.Lstat(path); err != nil {
				t.Error(err)
			}
		}
	}
	if did, err := s.Reset(); did || err != nil {
		t.Errorf("without a wish: %v, %v", did, err)
	}
	if err := errors.Join(s.AskReset(), s.CancelReset()); err != nil || s.ResetAsked() {
		t.Errorf("taken back: %v", err)
	}
	check(true)
	if err := s.AskReset(); err != nil {
		t.Fatal(err)
	}
	if names, err := s.Unknown(); err != nil || slices.Contains(names, resetFile) {
		t.Errorf("strangers in the store: %q, %v", names, err)
	}
	// Cut after the first rename, it is all done again.
	if err := os.Rename(s.VarPath(), filepath.Join(s.Dir, tmpDir, "reset-cut")); err != nil {
		t.Fatal(err)
	}
	if did, err := s.Reset(); !did || err != nil {
		t.Fatalf("reset: %v, %v", did, err)
	}
	check(false)
	if s.ResetAsked() {
		t.Error("it would be reset again")
	}
	if st, err := os.Stat(s.VarPath()); err != nil || st.Mode() != fs.ModeDir|0o755 {
		t.Errorf("/var is %v, %v", st, err)
	}
}
