package esp

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestStrays: what loader or stub would take up is found, and what they pass
// over is not.
func TestStrays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "e*p")
	want := []string{
		"EFI/Linux/a+3.efi.extra.d/evil.addon.efi", "EFI/Linux/a+3.efi.extra.d/evil.cred",
		"loader/addons/evil.addon.efi", "loader/credentials/evil.cred", "loader/entries/evil.conf",
	}
	for _, path := range append([]string{"EFI/Linux/a+3.efi", "loader/loader.conf", "loader/entries/readme", "EFI/BOOT/BOOTX64.EFI"}, want...) {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Strays(); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}
