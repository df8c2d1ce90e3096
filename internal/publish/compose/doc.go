// Package compose makes the tree of a recipe: the whole root file system of a
// system as data, with the tree rules applied, ready to become an image.
//
// Three stages, each a file or two:
//
//   - The base. For Debian: resolve the packages with apt (resolve.go), keep
//     them in a cache by hash (fetch.go), give exactly those to mmdebstrap as
//     a repository of its own (repository.go, install.go). Its tar stream is
//     read straight into a tree.Tree (readtar.go); contents go into a spool,
//     each once, named by its fs-verity digest (spool.go). An OCI image or a
//     directory end in the same place.
//   - What the recipe adds: files, accounts, services, the agent and its units.
//   - The tree rules (rules.go and its neighbours; docs/tree-rules.md): /etc
//     becomes /usr/etc, what packages put into /var becomes a factory copy, one
//     time for every file, no logs, caches or keys, nothing compressed that
//     would make the next update large.
//
// Nothing needs root after mmdebstrap, and mmdebstrap itself runs in a user
// namespace when the caller is not root: owners come from the tar stream and
// live in the tree only.
//
// The result depends on the recipe, the files it names and the lock, and on
// nothing else: not on the time, the directory, or the order in which workers
// finish.
package compose
