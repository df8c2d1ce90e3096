package compose

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/publish/recipe"
)

var sbomTime = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

const smallStatus = `Package: libstdc++6
Status: install ok installed
Architecture: amd64
Source: gcc-14 (14.2.0-19)
Version: 14.2.0-19+b1
Maintainer: Debian GCC Maintainers <debian-gcc@lists.debian.org>
Homepage: https://gcc.gnu.org/
Description: GNU Standard C++ Library v3
 with a line: that looks like a field
Conffiles:
 /etc/x 00 obsolete

Package: login
Status: install ok installed
Architecture: amd64
Source: shadow
Version: 1:4.16.0-2~deb13u1
Maintainer: A Person <a@example.org>
Homepage: none

Package: ashlar-initramfs
Version: 1
Architecture: all

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1

Package: dash
Status: install ok triggers-pending
Architecture: amd64
Version: 0.5.12-12
`

func smallResult() *Result {
	return &Result{
		Tree: smallTree(map[string]string{
			"usr/lib/sysimage/dpkg/status":     smallStatus,
			"usr/bin/ashlar":                   "ELF",
			"usr/share/doc/dash/copyright":     "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: BSD-3-clause\n\nFiles: debian/*\nLicense: GPL-2+ and Expat\n\nLicense: other\n",
			"usr/share/doc/login":              "-> dash",
			"usr/share/doc/libstdc++6":         "-> ../../x",
			"usr/share/doc/gone/copyright":     "none",
			"usr/lib/sysimage/dpkg/arch":       "amd64",
			"var/lib/dpkg":                     "-> ../../usr/lib/sysimage/dpkg",
			"usr/lib/sysimage/dpkg/info/empty": "",
		}),
		Lock:      &recipe.Lock{Packages: []recipe.LockPackage{{Name: "dash", Version: "0.5.12-12", Architecture: "amd64", SHA256: strings.Repeat("d", 64)}}},
		OSRelease: []byte("ID=debian\nVERSION_ID=\"13\"\n"),
	}
}

func TestSBOMIsGolden(t *testing.T) {
	got, err := SBOM(smallResult(), "server", "1.0.0", sbomTime)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "sbom.spdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got:\n%s", got)
	}
	checkSPDX(t, got)
	list, err := ReadSBOM(got)
	if err != nil {
		t.Fatal(err)
	}
	if s := fmt.Sprint(list); s != "[{dash 0.5.12-12 amd64} {libstdc++6 14.2.0-19+b1 amd64} {login 1:4.16.0-2~deb13u1 amd64} {ashlar 0.1.0 }]" {
		t.Error(s)
	}
}

// The machine's own packages, with dpkg as the oracle for what is installed
// and from which source.
func TestSBOMOfThisMachine(t *testing.T) {
	const format = `${db:Status-Status} ${Package} ${Version} ${Architecture} ${source:Package} ${source:Version}\n`
	out, err := program.Run(t.Context(), program.Command{Args: []string{"dpkg-query", "-W", "-f", format}})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "installed "); ok {
			want = append(want, rest)
		}
	}
	r := &Result{Tree: smallTree(map[string]string{"etc/os-release": ""})}
	docs := r.Tree.Root.Add(&tree.Node{Name: "usr", Mode: tree.TypeDir}).Add(&tree.Node{Name: "share", Mode: tree.TypeDir}).
		Add(&tree.Node{Name: "doc", Mode: tree.TypeDir})
	for _, name := range want {
		name, _, _ = strings.Cut(name, " ")
		if b, err := os.ReadFile("/usr/share/doc/" + name + "/copyright"); err == nil {
			docs.Add(&tree.Node{Name: name, Mode: tree.TypeDir}).
				Add(&tree.Node{Name: "copyright", Mode: tree.TypeRegular, Size: uint64(len(b)), Inline: b})
		}
	}
	status, err := os.ReadFile("/var/lib/dpkg/status")
	if err != nil {
		t.Fatal(err)
	}
	r.Tree.Root.Add(&tree.Node{Name: "var", Mode: tree.TypeDir}).Add(&tree.Node{Name: "lib", Mode: tree.TypeDir}).
		Add(&tree.Node{Name: "dpkg", Mode: tree.TypeDir}).
		Add(&tree.Node{Name: "status", Mode: tree.TypeRegular, Size: uint64(len(status)), Inline: status})

	debs, err := debsOf(r.Tree)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range debs {
		got = append(got, strings.Join([]string{p.Name, p.Version, p.Architecture, p.Source, p.SourceVersion}, " "))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %d packages, dpkg-query says %d:\n%q\n%q", len(got), len(want), got, want)
	}
	b, err := SBOM(r, "this-machine", "1", sbomTime)
	if err != nil {
		t.Fatal(err)
	}
	checkSPDX(t, b)
	if n := bytes.Count(b, []byte(`"licenseDeclared": "NOASSERTION"`)); n > len(want)*9/10 {
		t.Errorf("%d of %d packages have no licence: none is understood", n, len(want))
	}
	again, err := SBOM(r, "this-machine", "1", sbomTime)
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("the second time it differs: %v", err)
	}
}

var (
	spdxIDPattern  = regexp.MustCompile(`^SPDXRef-[A-Za-z0-9.-]+$`)
	purlPattern    = regexp.MustCompile(`^pkg:(deb/[a-z0-9.-]+|golang/github\.com/ashlar-os)/[A-Za-z0-9.~%-]+@[A-Za-z0-9.:~%-]+(\?([a-z]+=[A-Za-z0-9.:~%_-]+&?)+)?$`)
	supplierPatern = regexp.MustCompile(`^(NOASSERTION|(Person|Organization): [^()]+.*)$`)
	licencePattern = regexp.MustCompile(`^(NOASSERTION|[A-Za-z0-9.-]+( AND [A-Za-z0-9.-]+)*)$`)
	createdPattern = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`)
	sha256Pattern  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// checkSPDX applies the rules of SPDX 2.3 that a document of this kind can break.
func checkSPDX(t *testing.T, b []byte) {
	t.Helper()
	must := func(ok bool, format string, args ...any) {
		t.Helper()
		if !ok {
			t.Errorf("SPDX: "+format, args...)
		}
	}
	var doc spdxDocument
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	must(doc.SPDXVersion == "SPDX-2.3" && doc.DataLicense == "CC0-1.0" && doc.SPDXID == "SPDXRef-DOCUMENT", "6.1 to 6.3: %+v", doc.SPDXID)
	namespace, err := url.Parse(doc.DocumentNamespace)
	must(err == nil && namespace.IsAbs() && namespace.Fragment == "", "6.5: namespace %q", doc.DocumentNamespace)
	must(createdPattern.MatchString(doc.CreationInfo.Created), "6.9: created %q", doc.CreationInfo.Created)
	must(len(doc.CreationInfo.Creators) > 0 && strings.HasPrefix(doc.CreationInfo.Creators[0], "Tool: "), "6.8: creators %q", doc.CreationInfo.Creators)
	ids := map[string]bool{doc.SPDXID: true}
	for _, p := range doc.Packages {
		must(p.Name != "" && p.DownloadLocation == noAssertion, "7.1, 7.7: %+v", p)
		must(spdxIDPattern.MatchString(p.SPDXID) && !ids[p.SPDXID], "7.2: id %q", p.SPDXID)
		ids[p.SPDXID] = true
		must(supplierPatern.MatchString(p.Supplier), "7.5: supplier %q", p.Supplier)
		must(!p.FilesAnalyzed, "7.8: no files are listed")
		for _, sum := range p.Checksums {
			must(sum.Algorithm == "SHA256" && sha256Pattern.MatchString(sum.Value), "7.10: %+v", sum)
		}
		if p.Homepage != "" {
			u, err := url.Parse(p.Homepage)
			must(err == nil && u.Host != "", "7.11: homepage %q", p.Homepage)
		}
		must(p.LicenseConcluded == noAssertion && licencePattern.MatchString(p.LicenseDeclared), "7.13, 7.15: licence %q", p.LicenseDeclared)
		must(p.CopyrightText == noAssertion, "7.17: %q", p.CopyrightText)
		for _, ref := range p.ExternalRefs {
			must(ref.Category == "PACKAGE-MANAGER" && ref.Type == "purl", "7.21: %+v", ref)
			must(purlPattern.MatchString(ref.Locator), "purl %q", ref.Locator)
			_, err := url.PathUnescape(ref.Locator)
			must(err == nil, "purl %q: %v", ref.Locator, err)
		}
		must(slices.Contains([]string{"OPERATING-SYSTEM", "INSTALL", "APPLICATION"}, p.PrimaryPackagePurpose), "7.24: %q", p.PrimaryPackagePurpose)
	}
	described, reached := 0, map[string]bool{}
	for _, r := range doc.Relationships {
		must(ids[r.From] && ids[r.To], "11.1: %+v names something that is not there", r)
		if r.Type == "DESCRIBES" {
			described++
		}
		must(r.Type == "DESCRIBES" || r.Type == "CONTAINS", "11.1: %+v", r)
		reached[r.To] = true
	}
	must(described == 1, "%d DESCRIBES", described)
	must(len(reached) == len(doc.Packages), "%d of %d packages are reached", len(reached), len(doc.Packages))
}

func TestSBOMRefuses(t *testing.T) {
	for content, want := range map[string]string{
		"no field":                   `line 1, "no field", is no field`,
		"Package: a\nVersion: 1\n\n": "the paragraph before line 3: it lacks",
		"Package: " + strings.Repeat("a", 2000) + "\nVersion: 1\nArchitecture: all\n": `the field "package" has 2000 bytes`,
	} {
		r := &Result{Tree: smallTree(map[string]string{"var/lib/dpkg/status": content})}
		_, err := SBOM(r, "a", "1", sbomTime)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `"/var/lib/dpkg/status"`) {
			t.Errorf("%.30q: %v, want something with %q", content, err, want)
		}
	}
	if _, err := SBOM(smallResult(), "", "1", sbomTime); err == nil {
		t.Error("no name is accepted")
	}
	for content, want := range map[string]string{
		"[]": "array", `{"spdxVersion":"SPDX-3.0"}`: `"spdxVersion"`,
		`{"spdxVersion":"SPDX-2.3","packages":[{}]}`: `"packages[0].name"`,
	} {
		if _, err := ReadSBOM([]byte(content)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", content, err)
		}
	}
}

// Images without dpkg keep one file a package.
func TestSBOMOfStatusDirectory(t *testing.T) {
	debs, err := debsOf(smallTree(map[string]string{
		"var/lib/dpkg/status.d/base":         "Package: base-files\nVersion: 13.8\nArchitecture: amd64\n",
		"var/lib/dpkg/status.d/base.md5sums": "00  etc/x\n",
		"var/lib/dpkg/status.d/tz":           "Package: tzdata\nVersion: 2025b-4\nArchitecture: all\n",
	}))
	if err != nil || len(debs) != 2 || debs[0].Name != "base-files" || debs[1].SourceVersion != "2025b-4" {
		t.Errorf("%+v, %v", debs, err)
	}
}

func TestLicenceOf(t *testing.T) {
	const head = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
	for text, want := range map[string]string{
		"":                              noAssertion,
		"This is free software, GPL.\n": noAssertion,
		head + "License: GPL-2\n":       noAssertion,
		head + "\nFiles: *\nLicense: GPL-2\n text\n":                        "GPL-2.0-only",
		head + "\nFiles: *\nLicense: GPL-2+ or Artistic\n":                  noAssertion,
		head + "\nFiles: *\nLicense: GPL-2+ with OpenSSL exception\n":       noAssertion,
		head + "\nFiles: *\nLicense: Expat\n\nFiles: x\nLicense: expat\n":   "MIT",
		head + "\nFiles: *\nLicense: Expat\n\nFiles: x\nLicense: strange\n": noAssertion,
		head + "\nFiles: *\nLicense: public-domain, and ISC\n":              "ISC",
	} {
		if got := licenceOf([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte(smallStatus))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseStatus(nil, b)
		if err != nil {
			return
		}
		for _, p := range list {
			if p.Name == "" || p.Version == "" || p.Architecture == "" || p.Source == "" || p.SourceVersion == "" {
				t.Errorf("%+v", p)
			}
		}
	})
}
