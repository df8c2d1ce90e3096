// Package test holds the checks that concern the repository as a whole.
package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/ashlar-os/ashlar/"

// layers names, for each part of the repository, the parts it may import.
// The arrows are those of DESIGN §6; a part may always import itself and the
// leaves limited, program and progress.
var layers = map[string][]string{
	"cmd/ashlar":        {"internal/cli"},
	"cmd/ashlar-init":   {"internal/machine", "internal/image"},
	"internal/cli":      {"internal/publish", "internal/machine", "internal/media", "internal/trust", "internal/registry", "internal/image"},
	"internal/publish":  {"internal/trust", "internal/registry", "internal/image"},
	"internal/machine":  {"internal/trust", "internal/registry", "internal/image"},
	"internal/media":    {"internal/trust", "internal/registry", "internal/image"},
	"internal/trust":    {"internal/image"},
	"internal/registry": {"internal/image"},
	"internal/image":    {},
	"internal/limited":  {},
	"internal/program":  {},
	"internal/progress": {},
	"internal/vmtest":   {},
	"bench":             {"internal/vmtest", "internal/publish", "internal/machine", "internal/trust", "internal/registry", "internal/image", "test"},
	"test":              {"internal/vmtest", "internal/publish", "internal/machine", "internal/trust", "internal/registry", "internal/image"},
}

var leaves = []string{"internal/limited", "internal/program", "internal/progress"}

type listedPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func listPackages(t *testing.T, patterns ...string) []listedPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, patterns...)...)
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	var list []listedPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listedPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// part returns the longest key of layers that holds the package, or "".
func part(importPath string) string {
	path, ours := strings.CutPrefix(importPath, module)
	if !ours {
		return ""
	}
	for prefix := path; ; {
		if _, ok := layers[prefix]; ok {
			return prefix
		}
		i := strings.LastIndexByte(prefix, '/')
		if i < 0 {
			return "?"
		}
		prefix = prefix[:i]
	}
}

// TestImportsPointOneWay guards the architecture: a package that reaches
// across or upwards fails here, with the arrow named.
func TestImportsPointOneWay(t *testing.T) {
	packages := listPackages(t, "./...")
	if len(packages) < 10 {
		t.Fatalf("go list found %d packages", len(packages))
	}
	for _, p := range packages {
		from := part(p.ImportPath)
		if from == "?" {
			t.Errorf("%s is in no part of the design", p.ImportPath)
			continue
		}
		allowed := append(append([]string{from}, leaves...), layers[from]...)
		for _, imported := range p.Imports {
			to := part(imported)
			if to != "" && !contains(allowed, to) {
				t.Errorf("%s imports %s: %s may not use %s", p.ImportPath, imported, from, to)
			}
		}
	}
}

// TestInitLinksNoNetwork keeps the first process of every boot free of
// network code and of running programs.
func TestInitLinksNoNetwork(t *testing.T) {
	list := listPackages(t, "./cmd/ashlar-init")
	if len(list) != 1 || len(list[0].Deps) == 0 {
		t.Fatalf("go list: %v", list)
	}
	for _, banned := range []string{"net", "net/http", "crypto/tls", "os/exec", module + "internal/registry", module + "internal/program"} {
		if contains(list[0].Deps, banned) {
			t.Errorf("cmd/ashlar-init links %s", banned)
		}
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
