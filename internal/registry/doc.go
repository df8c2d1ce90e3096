// Package registry moves releases between a publisher, an OCI registry and a machine.
//
// A [Repository] is a place that holds releases: an ordinary OCI registry's
// repository ("registry.example/acme/server"), or a directory in OCI image
// layout ("oci:out", or the path of one). Both answer the same calls, so what
// works against one works against the other:
//
//	repo, tag, err := registry.Open("registry.example/acme/server:stable", registry.Options{})
//	rel, err := repo.ReadRelease(ctx, tag)
//	erofs, err := rel.OpenEROFS(ctx) // plain bytes, checked against the document
//
// What is under a tag is described in docs/registry.md: an OCI index of an
// ordinary image, whose one layer is also the object pack, and of a release
// artifact that refers to it.
//
// A machine does not go by tags: [Repository.ReadTrust] lists the files of the
// signed metadata, and what is signed there names a release by digest
// ([Repository.ReadReleaseArtifact]). Who signed, and whether that is to be
// believed, is not this package's to know; see package trust.
//
// # Nothing is believed because of where it came from
//
// Everything that comes from outside has a limit before it is read (limits.go),
// content is checked against its digest while it streams, and a range read must
// be answered with exactly the range that was asked for. The digest of a range
// cannot be known here: whoever reads ranges checks each object inside.
//
// [ErrUnreachable] tells who did not answer from who answered wrongly.
//
// # Cuts
//
// A transfer that breaks goes on from where it was: the reader that Fetch,
// FetchRange and FetchRanges give asks for the rest, a bounded number of times,
// with growing pauses that end when the context does. A connection on which no
// byte moves for a minute counts as broken, and so does one that brings less than
// a kilobyte a second; a small request ends after two minutes, whatever moves.
//
// # The server
//
// [NewServer] serves a layout directory with the distribution API, read-only.
// It is for trying things out, for small sites and for tests, which count what
// machines ask of it.
package registry
