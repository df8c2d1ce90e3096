// Package release is the document that binds an image, its boot file, its
// object pack and its software list into one release, and the order of
// versions.
//
// A release is what a publisher says and signs. Everything a machine fetches
// for it (the EROFS file, the boot file, the pack's index, the software list)
// is named in the document by digest and size, so a machine that trusts the
// document need not trust where the rest came from. The package knows nothing
// about where documents are kept: a registry keeps them as blobs.
//
// The document is JSON in one canonical form, schema 1, at most 1 MiB:
//
//	{
//	  "schema": 1,
//	  "id": "server-1.0.0",
//	  "name": "server",
//	  "version": "1.0.0",
//	  …
//	}
//
// docs/release.md describes it to the last field. Versions are ordered by the
// UAPI Version Format Specification, which is how systemd-boot orders boot
// entries: see CompareVersions.
package release
