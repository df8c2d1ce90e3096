package diskimage

import (
	"bytes"
	"encoding/json"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// Origin is where the machine will look for updates.
type Origin struct {
	Repository string `json:"repository"` // host[:port]/path
	Channel    string `json:"channel"`
}

// deployment is deployment.json, schema 1 (docs/disk.md), as it is on a disk
// that never booted. The machine has its own type for it: publishing and
// machine share formats, not code.
type deployment struct {
	Schema       int           `json:"schema"`
	Image        verity.Digest `json:"image"`
	Name         string        `json:"name"`
	Version      string        `json:"version"`
	Release      string        `json:"release"` // "sha256:…" of the release document
	Origin       Origin        `json:"origin"`
	EtcFrom      string        `json:"etc_from"`
	GoodBootsSeq int64         `json:"good_boots_seq"`
	Pinned       bool          `json:"pinned"`
	Created      string        `json:"created"`
}

func encodeDeployment(doc *release.Document, documentDigest string, origin Origin) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(deployment{
		Schema: 1, Image: doc.Root().Digest, Name: doc.Name, Version: doc.Version,
		Release: documentDigest, Origin: origin, Created: doc.Created,
	})
	return b.Bytes(), err
}
