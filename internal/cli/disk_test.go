package cli

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/publish/diskimage"
	"github.com/ashlar-os/ashlar/internal/registry"
)

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{"": 0, "1": 1, "512M": 512 << 20, "8G": 8 << 30, "1T": 1 << 40, "3K": 3072} {
		if got, err := parseSize("size", s); got != want || err != nil {
			t.Errorf("%q is %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"0", "-1G", "G", "8GB", "8MG", "1.5G", "8 G", "99999999999T", "9223372036854775807K"} {
		var usage *codeError
		if n, err := parseSize("size", s); !errors.As(err, &usage) || usage.code != exitUsage {
			t.Errorf("%q is %d, %v, want a usage error", s, n, err)
		}
	}
}

// TestDiskOrigin: what is written into the machine decides where all of its
// updates come from.
func TestDiskOrigin(t *testing.T) {
	layout := filepath.Join(t.TempDir(), "out")
	if _, err := registry.CreateLayout(layout); err != nil {
		t.Fatal(err)
	}
	const remote = "registry.example/acme/server"
	for _, test := range []struct {
		release, repository, channel string
		want                         diskimage.Origin
		wantErr                      string
	}{
		{release: layout},
		{release: layout + ":1.0.0"},
		{release: layout, repository: remote, want: diskimage.Origin{Repository: remote, Channel: "stable"}},
		{release: layout + ":testing", repository: remote, want: diskimage.Origin{Repository: remote, Channel: "testing"}},
		{release: layout, repository: remote, channel: "edge", want: diskimage.Origin{Repository: remote, Channel: "edge"}},
		{release: remote + ":1.0.0", want: diskimage.Origin{Repository: remote, Channel: "stable"}},
		{release: remote + ":testing", want: diskimage.Origin{Repository: remote, Channel: "testing"}},
		{release: remote + "@sha256:" + strings.Repeat("a", 64), want: diskimage.Origin{Repository: remote, Channel: "stable"}},
		{release: "http://" + remote + ":testing", want: diskimage.Origin{Repository: "http://" + remote, Channel: "testing"}},
		{release: layout, repository: "http://" + remote, want: diskimage.Origin{Repository: "http://" + remote, Channel: "stable"}},
		{release: layout, channel: "edge", wantErr: "--repository"},
		{release: layout, repository: remote + ":edge", wantErr: "--channel"},
		{release: layout, repository: remote, channel: "1.0", wantErr: "begins with a digit"},
	} {
		repo, tag, err := openRepository(test.release)
		if err != nil {
			t.Fatal(err)
		}
		got, err := diskOptions{release: test.release, repository: test.repository, channel: test.channel}.origin(repo, tag)
		switch {
		case test.wantErr != "":
			if err == nil || !strings.Contains(err.Error(), test.wantErr) {
				t.Errorf("%+v: error %v", test, err)
			}
		case err != nil || got != test.want:
			t.Errorf("%+v: got %+v, %v", test, got, err)
		}
	}
}

func TestDiskOfNothing(t *testing.T) {
	layout := filepath.Join(t.TempDir(), "out")
	if _, err := registry.CreateLayout(layout); err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	g := &globals{stdout: &strings.Builder{}, stderr: &stderr}
	if code := run(context.Background(), []string{"disk", layout, "-o", filepath.Join(t.TempDir(), "disk.raw")}, g); code != exitError {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(stderr.String(), "holds no release") {
		t.Errorf("it said %q", stderr.String())
	}
}
