// Package trust says which releases of an image are genuine, and which of them
// a channel names now. It is what stands between a machine and a registry that
// lies.
//
// The publisher's statements are a repository of The Update Framework (TUF,
// https://theupdateframework.github.io/specification/latest/), one for each OCI
// repository. Five roles sign, each with its own keys:
//
//	root       which keys the others have; offline, a threshold of holders
//	targets    releases/<name>/<architecture>/<version>: the release document
//	channels   channels/<name>/<architecture>/<channel>, withdrawn/…/<version>;
//	           delegated by targets: it can only choose among what targets signed
//	snapshot   which versions of targets and channels belong together
//	timestamp  which snapshot is the newest, said again every few days
//
// docs/trust.md describes the files to the last field, the rules for clocks, and
// what a thief of each key can do.
//
// # The machine's side
//
// A [Client] starts from the root in the image, which is sealed, and a [Source]
// of files, which may be anybody's: a registry, a directory, a stick.
//
//	client := &trust.Client{Dir: dir, Root: root, Image: trust.Target{Name: "server", Architecture: "amd64"}}
//	view, err := client.Refresh(ctx, source)
//	release, err := view.Channel("stable")
//
// Errors are of three kinds: [ErrUntrusted], somebody lies; [ErrRollback], a lie
// of the kind that shows something older; [ErrStale], nobody vouches for this
// any more, which is also what a repository that is held back looks like. What
// else goes wrong (a network that is down, a disk that is full) is none of them.
//
// There is no way to turn verification off.
//
// # The publisher's side
//
// [Init] makes a [Keyring], a directory of encrypted keys. An [Editor] opens what
// the registry holds, verified as a machine would, takes changes, and signs:
//
//	keys, err := trust.OpenKeyring(dir, passphrase)
//	editor, err := trust.Open(ctx, keys, source, trust.EditorOptions{Repository: "registry.example/acme/server"})
//	err = editor.AddRelease(document, artifact)
//	err = editor.SetChannel("stable", "1.2.0")
//	files, err := editor.Sign(ctx)
//	… upload files …
//	err = editor.Published(ctx)
//
// Keys that are elsewhere sign a [Request], which travels as a file.
package trust
