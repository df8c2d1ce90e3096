package release

import (
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// Schema is the version of the document's schema that this package writes and reads.
const Schema = 1

// RuleSet is the version of the rules that compose applies to every tree; it
// changes whenever the same packages would give another tree.
const RuleSet = 1

// BuilderVersion is the version of this software, recorded in what it builds.
const BuilderVersion = "0.1.0"

// Document is one release: what a publisher says, and what will be signed.
type Document struct {
	Schema        int               `json:"schema"`
	ID            string            `json:"id"`      // NAME-VERSION, the same in every channel
	Name          string            `json:"name"`    // of the image, such as "server"
	Version       string            `json:"version"` // see CompareVersions
	Architecture  string            `json:"architecture"`
	Created       string            `json:"created"` // RFC 3339, from the lock, not from the clock
	Images        []Image           `json:"images"`
	UKI           File              `json:"uki"`
	Pack          File              `json:"pack"`       // the OCI layer blob, zstd
	PackIndex     File              `json:"pack_index"` // see docs/pack.md
	SBOM          File              `json:"sbom"`
	Lock          File              `json:"lock"`
	Medium        *Medium           `json:"medium,omitempty"` // nil: none was made
	RuleSet       int               `json:"rule_set"`
	ReachableFrom string            `json:"reachable_from,omitempty"` // oldest version that can update to this one
	Users         map[string]uint32 `json:"users"`
	Groups        map[string]uint32 `json:"groups"`
	Builder       string            `json:"builder"`
}

// Image is one composefs image of the release.
type Image struct {
	Role    string        `json:"role"` // "root"; later also "app", "service", "extension"
	Digest  verity.Digest `json:"digest"`
	Size    int64         `json:"size"`    // bytes of the EROFS file
	Objects int           `json:"objects"` // number of distinct objects
	Bytes   int64         `json:"bytes"`   // their content, bytes
}

// Medium is the install medium of the release, docs/medium.md.
type Medium struct {
	Size     int64  `json:"size"`      // bytes of the whole image, holes included
	Map      File   `json:"map"`       // which blocks are in use, and their digests
	Blocks   File   `json:"blocks"`    // those blocks, one after the other
	RootHash string `json:"root_hash"` // of the payload's dm-verity tree, 64 hexadecimal digits
}

// File is something the release binds by sha256 of its plain bytes.
type File struct {
	SHA256 string `json:"sha256"` // 64 hexadecimal digits
	Size   int64  `json:"size"`   // bytes
}
