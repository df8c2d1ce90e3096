package registry

import "time"

// Limits on what comes from outside. A size that a release document states is
// the tighter limit where there is one; these are the caps above it.
const (
	maxManifest = 4 << 20  // an OCI manifest or index, bytes; what registries accept too
	maxDocument = 1 << 20  // the release document
	maxIndex    = 64 << 20 // the pack index
	maxSBOM     = 256 << 20
	maxLock     = 64 << 20
	maxMap      = 16 << 20 // the map of a medium
	maxEROFS    = 2 << 30  // plain bytes of one image; a million inodes are 300 MB
	maxUKI      = 1 << 30  // plain bytes; it has to fit an ESP
	maxTags     = 10_000   // tags of one repository
	maxTagPages = 256      // answers that list them; empty pages are allowed
	maxSoleTags = 16       // tags that are looked at to find out whether they name one release
	maxEntries  = 64       // manifests in one index
	maxLayers   = 256      // layers in one manifest; base images may have many
	maxConfig   = 4 << 20  // the config of an image
	maxBlob     = 1 << 40  // any other blob
	maxDepth    = 3        // index → index → manifest
	maxError    = 4 << 10  // what is read of an error's body

	// The artifact with the signed metadata: what one descriptor of it may
	// state, and what of a file is put into the manifest itself. Who reads a file
	// has a tighter limit for it.
	maxMetadata = 8 << 20
	maxEmbedded = 3 << 10

	// What one copy may consist of, besides blobs: it is kept in memory until
	// all blobs are there. A release is three manifests of a few kilobytes.
	maxCopyManifests = 256
	maxCopyBytes     = 32 << 20
)

// maxWindow bounds the memory of a zstd decoder.
const maxWindow = 32 << 20

// Behaviour when connections break, unless Options says otherwise.
const (
	defaultConnections = 4
	defaultStall       = 60 * time.Second
	defaultRetries     = 6
	defaultRequest     = 2 * time.Minute
	defaultMinRate     = 1 << 10
	defaultWindow      = time.Minute

	// smallRetries is how often a small request is tried again: a person may be
	// waiting to hear that there is no network. A transfer that has begun is
	// worth more patience.
	smallRetries = 3

	// progressResets is how many bytes a connection must have brought before
	// a cut counts as a new one: a server that sends a byte and hangs up
	// cannot keep a machine busy for ever.
	progressResets = 256 << 10
)

// backoff is the pause before the nth new attempt (from 0): 0.5 s, 1 s, … 16 s.
func backoff(n int) time.Duration { return 500 * time.Millisecond << min(n, 5) }
