// Package store keeps what a machine can boot: objects, images and deployments.
//
//	objects/ab/cdef…        one content each, named by its fs-verity digest, mode 0444, sealed
//	images/<digest>         composefs images, named and sealed likewise
//	deployments/<digest>/   deployment.json, release.json, etc/ (overlay upper), work/, etc.json
//	var/                    /var of every deployment
//	trust/                  what the trust package keeps
//	tmp/                    partial work; whatever is in it may go at any time nobody holds the lock
//	lock                    held by whoever changes any of this
//
// The directory is /ashlar on the root partition. Names that are not of these
// forms belong to somebody else: they are left alone and never an error.
//
// # What a name promises
//
// An object or image that stands under its final name and is sealed is whole.
// Content is written to tmp/, checked against its digest, sealed and brought
// to the disk before it gets its name, so a cut leaves it either absent or
// right. A name without a seal, or whose measured digest is another, counts as
// missing and is replaced when fetched again. What the seal cannot promise is
// that the disk still gives back what was written: that is what Verify reads
// everything for.
//
// # What it costs
//
// A batch of any number of objects is two syncfs calls, not an fsync each.
// Sealing waits for the disk per file, so a batch seals many at once.
//
// The format, to the last field, is docs/store.md.
package store
