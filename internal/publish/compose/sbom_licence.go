package compose

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// noAssertion is SPDX for "we do not say".
const noAssertion = "NOASSERTION"

// maxCopyrightFile is the size up to which a copyright file is looked at, bytes.
const maxCopyrightFile = 4 << 20

// copyrightFormat is how a machine-readable copyright file begins
// (https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/).
const copyrightFormat = "www.debian.org/doc/packaging-manuals/copyright-format/1."

// spdxLicences maps the names of licences that Debian's format defines, in
// lower case, to SPDX's. Only exact equivalents are here: a package with any
// other licence declares nothing, which is better than something wrong.
var spdxLicences = map[string]string{
	"apache-2.0": "Apache-2.0", "artistic-2.0": "Artistic-2.0",
	"bsd-2-clause": "BSD-2-Clause", "bsd-3-clause": "BSD-3-Clause", "bsd-4-clause": "BSD-4-Clause",
	"bsl-1.0": "BSL-1.0", "cc0-1.0": "CC0-1.0", "cc-by-3.0": "CC-BY-3.0", "cc-by-4.0": "CC-BY-4.0",
	"cc-by-sa-3.0": "CC-BY-SA-3.0", "cc-by-sa-4.0": "CC-BY-SA-4.0", "expat": "MIT", "isc": "ISC",
	"gfdl-1.2+": "GFDL-1.2-or-later", "gfdl-1.3+": "GFDL-1.3-or-later",
	"gpl-1": "GPL-1.0-only", "gpl-1+": "GPL-1.0-or-later", "gpl-2": "GPL-2.0-only", "gpl-2+": "GPL-2.0-or-later",
	"gpl-3": "GPL-3.0-only", "gpl-3+": "GPL-3.0-or-later", "agpl-3": "AGPL-3.0-only", "agpl-3+": "AGPL-3.0-or-later",
	"lgpl-2": "LGPL-2.0-only", "lgpl-2+": "LGPL-2.0-or-later", "lgpl-2.1": "LGPL-2.1-only", "lgpl-2.1+": "LGPL-2.1-or-later",
	"lgpl-3": "LGPL-3.0-only", "lgpl-3+": "LGPL-3.0-or-later", "mpl-1.1": "MPL-1.1", "mpl-2.0": "MPL-2.0",
	"openldap-2.8": "OLDAP-2.8", "openssl": "OpenSSL", "python-2.0": "Python-2.0", "psf-2": "PSF-2.0",
	"w3c": "W3C", "zlib": "Zlib", "zpl-2.1": "ZPL-2.1", "unlicense": "Unlicense", "0bsd": "0BSD",
}

// declaredLicence is the SPDX expression that the package's copyright file
// amounts to, or NOASSERTION.
func declaredLicence(t *tree.Tree, name string) string {
	n := t.Lookup("/usr/share/doc/" + name)
	if n != nil && n.IsSymlink() && path.Base(n.Target) == n.Target {
		n = t.Lookup("/usr/share/doc/" + n.Target) // as policy 12.5 allows
	}
	if n == nil || !n.IsDir() || n.Child("copyright") == nil {
		return noAssertion
	}
	b, err := nodeContent(n.Child("copyright"), maxCopyrightFile)
	if err != nil {
		return noAssertion // a link, or enormous: nothing that would be worth failing for
	}
	return licenceOf(b)
}

// licenceOf joins the licences of all Files paragraphs. One that has no SPDX
// name, an exception or an "or" in it makes the answer NOASSERTION.
func licenceOf(copyright []byte) string {
	first, _, _ := bytes.Cut(copyright, []byte("\n"))
	if !bytes.HasPrefix(first, []byte("Format:")) || !bytes.Contains(first, []byte(copyrightFormat)) {
		return noAssertion
	}
	var licences []string
	inFiles := false
	for line := range strings.SplitSeq(string(copyright), "\n") {
		field, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(field) {
		case "":
			inFiles = false
		case "files":
			inFiles = true
		case "license":
			if !inFiles {
				continue
			}
			for name := range strings.SplitSeq(strings.ReplaceAll(strings.ToLower(strings.TrimSpace(value)), ", and ", " and "), " and ") {
				if name = strings.TrimSpace(name); name == "public-domain" {
					continue // no licence is needed
				}
				spdx, known := spdxLicences[name]
				if !known {
					return noAssertion
				}
				licences = append(licences, spdx)
			}
		}
	}
	if len(licences) == 0 {
		return noAssertion
	}
	slices.Sort(licences)
	return strings.Join(slices.Compact(licences), " AND ")
}
