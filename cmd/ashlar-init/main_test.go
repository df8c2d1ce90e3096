package main

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// maxSize is how large the first process may be, in bytes: firmware reads it
// from the ESP at every boot.
const maxSize = 6 << 20

func run(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", args, err, out)
	}
	return string(out)
}

// The binary is small and static, as images are built with it.
func TestSmallAndStatic(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ashlar-init")
	run(t, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-ldflags", "-s -w -buildid=", "-o", path, ".")
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Size() > maxSize {
		t.Errorf("the binary has %d bytes, at most %d are wanted", st.Size(), maxSize)
	}
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the binary is linked dynamically")
		}
	}
}

// Nothing that talks to a network or starts other programs is linked.
func TestLinksNoNetwork(t *testing.T) {
	for _, p := range strings.Fields(run(t, nil, "go", "list", "-deps", ".")) {
		switch p {
		case "net", "net/http", "crypto/tls", "os/exec", "github.com/ashlar-os/ashlar/internal/program",
			"github.com/ashlar-os/ashlar/internal/registry", "github.com/ashlar-os/ashlar/internal/publish":
			t.Errorf("%s is linked", p)
		}
	}
}
