package compose

import (
	"encoding/json"
	"fmt"
	"strings"
)

// The parts of SPDX 2.3 that a software list of ours has, with the names of
// its JSON form (https://spdx.github.io/spdx-spec/v2.3/).
type spdxDocument struct {
	SPDXVersion       string             `json:"spdxVersion"`
	DataLicense       string             `json:"dataLicense"`
	SPDXID            string             `json:"SPDXID"`
	Name              string             `json:"name"`
	DocumentNamespace string             `json:"documentNamespace"`
	CreationInfo      spdxCreation       `json:"creationInfo"`
	Packages          []spdxPackage      `json:"packages"`
	Relationships     []spdxRelationship `json:"relationships"`
}

type spdxCreation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	Name                  string         `json:"name"`
	SPDXID                string         `json:"SPDXID"`
	VersionInfo           string         `json:"versionInfo"`
	Supplier              string         `json:"supplier"`
	DownloadLocation      string         `json:"downloadLocation"`
	FilesAnalyzed         bool           `json:"filesAnalyzed"` // always false: the image's digest covers the files
	Checksums             []spdxChecksum `json:"checksums,omitempty"`
	Homepage              string         `json:"homepage,omitempty"`
	SourceInfo            string         `json:"sourceInfo,omitempty"`
	LicenseConcluded      string         `json:"licenseConcluded"`
	LicenseDeclared       string         `json:"licenseDeclared"`
	CopyrightText         string         `json:"copyrightText"`
	ExternalRefs          []spdxRef      `json:"externalRefs,omitempty"`
	PrimaryPackagePurpose string         `json:"primaryPackagePurpose,omitempty"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxRelationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

func purlRef(purl string) []spdxRef {
	return []spdxRef{{"PACKAGE-MANAGER", "purl", purl}}
}

// ReadSBOM lists the packages of a software list that SBOM wrote, in its
// order, without the image itself.
func ReadSBOM(b []byte) ([]Package, error) {
	var doc spdxDocument
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("reading the software list: %w", err)
	}
	if doc.SPDXVersion != "SPDX-2.3" {
		return nil, fmt.Errorf(`reading the software list: field "spdxVersion" is %.40q, want "SPDX-2.3"`, doc.SPDXVersion)
	}
	if len(doc.Packages) > maxPackages+2 {
		return nil, fmt.Errorf(`reading the software list: field "packages" lists more than %d packages`, maxPackages)
	}
	var list []Package
	for i, p := range doc.Packages {
		if p.SPDXID == imageID {
			continue
		}
		if p.Name == "" {
			return nil, fmt.Errorf(`reading the software list: field "packages[%d].name" is empty`, i)
		}
		list = append(list, Package{Name: p.Name, Version: p.VersionInfo, Architecture: p.architecture()})
	}
	return list, nil
}

// architecture is where SPDX has no field for it: in the package's URL.
func (p *spdxPackage) architecture() string {
	for _, ref := range p.ExternalRefs {
		_, query, _ := strings.Cut(ref.Locator, "?")
		for pair := range strings.SplitSeq(query, "&") {
			if arch, ok := strings.CutPrefix(pair, "arch="); ok && ref.Type == "purl" {
				return arch
			}
		}
	}
	return ""
}
