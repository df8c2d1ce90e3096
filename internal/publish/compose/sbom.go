package compose

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/publish/recipe"
)

// imageID is the SPDX id of the image itself, which contains everything else.
const imageID = "SPDXRef-Image"

// agentPath is the one program in an image that no package owns.
const agentPath = "/usr/bin/ashlar"

// SBOM writes the software list of an image as SPDX 2.3 in JSON: the image,
// every package that dpkg's database in the tree says is installed, and the
// agent. Created comes from the lock, never from a clock: the same input gives
// the same bytes. docs/sbom.md has the fields.
func SBOM(r *Result, name, version string, created time.Time) ([]byte, error) {
	b, err := writeSBOM(r, name, version, created)
	if err != nil {
		return nil, fmt.Errorf("making the software list: %w", err)
	}
	return b, nil
}

func writeSBOM(r *Result, name, version string, created time.Time) ([]byte, error) {
	if name == "" || version == "" {
		return nil, errors.New("the image has no name or no version")
	}
	installed, err := debsOf(r.Tree)
	if err != nil {
		return nil, err
	}
	doc := &spdxDocument{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT", Name: name + "-" + version,
		CreationInfo: spdxCreation{Created: created.UTC().Format(time.RFC3339), Creators: []string{"Tool: ashlar-" + release.BuilderVersion}},
	}
	doc.add("DESCRIBES", doc.SPDXID, spdxPackage{
		SPDXID: imageID, Name: name, VersionInfo: version, PrimaryPackagePurpose: "OPERATING-SYSTEM",
		Supplier: noAssertion, LicenseDeclared: noAssertion,
	})
	hashes := lockedHashes(r.Lock)
	id, distro := distribution(r.OSRelease)
	for _, p := range installed {
		if p.Name == standInName {
			continue // nobody's software: it has no content
		}
		sp := spdxPackage{
			SPDXID: packageID(p), Name: p.Name, VersionInfo: p.Version, Supplier: supplier(p.Maintainer),
			Homepage: homepage(p.Homepage), SourceInfo: "built from source package " + p.Source + " " + p.SourceVersion,
			LicenseDeclared:       declaredLicence(r.Tree, p.Name),
			PrimaryPackagePurpose: "INSTALL",
			ExternalRefs:          purlRef(packageURL(p, id, distro)),
		}
		if sum := hashes[p.Package]; sum != "" {
			sp.Checksums = []spdxChecksum{{"SHA256", sum}}
		}
		doc.add("CONTAINS", imageID, sp)
	}
	if r.Tree.Lookup(agentPath) != nil {
		doc.add("CONTAINS", imageID, spdxPackage{
			SPDXID: "SPDXRef-Ashlar", Name: "ashlar", VersionInfo: release.BuilderVersion, Supplier: noAssertion,
			LicenseDeclared: "Apache-2.0", PrimaryPackagePurpose: "APPLICATION",
			ExternalRefs: purlRef("pkg:golang/github.com/ashlar-os/ashlar@" + release.BuilderVersion),
		})
	}
	return doc.encode()
}

// encode fills in the namespace, which has to differ wherever documents do.
func (d *spdxDocument) encode() ([]byte, error) {
	b, err := d.marshal()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	d.DocumentNamespace = fmt.Sprintf("https://spdx.org/spdxdocs/%s-%x", escapePURL(d.Name), sum[:16])
	return d.marshal()
}

func (d *spdxDocument) marshal() ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	err := enc.Encode(d)
	return buf.Bytes(), err
}

// add appends a package and how from relates to it.
func (d *spdxDocument) add(relation, from string, p spdxPackage) {
	p.DownloadLocation = noAssertion // a mirror's address would differ from builder to builder
	p.LicenseConcluded, p.CopyrightText = noAssertion, noAssertion
	d.Packages = append(d.Packages, p)
	d.Relationships = append(d.Relationships, spdxRelationship{from, relation, p.SPDXID})
}

// packageID makes a name of letters, digits, "." and "-" (SPDX 2.3, 7.2) that
// a package keeps while its version stays; other bytes become hexadecimal.
func packageID(p deb) string {
	id := "SPDXRef-Package-" + p.Name + "-" + p.Version + "-" + p.Architecture
	return strings.ReplaceAll(escape(id, ".-"), "%", ".")
}

func lockedHashes(lock *recipe.Lock) map[Package]string {
	hashes := make(map[Package]string)
	if lock != nil {
		for _, p := range lock.Packages {
			hashes[Package{Name: p.Name, Version: p.Version, Architecture: p.Architecture}] = p.SHA256
		}
	}
	return hashes
}

// supplier is the maintainer. Debian's teams have mailing lists for addresses.
func supplier(maintainer string) string {
	name, address, ok := strings.Cut(maintainer, "<")
	name, address = strings.TrimSpace(name), strings.TrimSuffix(strings.TrimSpace(address), ">")
	if name == "" {
		return noAssertion
	}
	kind := "Person: "
	for _, word := range []string{"team", "maintainers", "group", "developers", "task force", "lists."} {
		if strings.Contains(strings.ToLower(maintainer), word) {
			kind = "Organization: "
		}
	}
	if !ok || address == "" {
		return kind + name
	}
	return kind + name + " (" + address + ")"
}

// homepage leaves out what is no address; validators refuse it.
func homepage(s string) string {
	if !strings.HasPrefix(s, "https://") && !strings.HasPrefix(s, "http://") || strings.ContainsAny(s, " \"<>\\^`{|}") {
		return ""
	}
	return s
}

// distribution is ID and ID-VERSION_ID of os-release(5).
func distribution(osRelease []byte) (id, distro string) {
	fields := make(map[string]string)
	for line := range strings.SplitSeq(string(osRelease), "\n") {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			fields[key] = strings.Trim(value, `"'`)
		}
	}
	id = cmp.Or(fields["ID"], "debian")
	if fields["VERSION_ID"] == "" {
		return id, ""
	}
	return id, id + "-" + fields["VERSION_ID"]
}
