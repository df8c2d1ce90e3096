// Package recipe reads the two files an image is made from.
//
// A recipe (recipe.toml) is what a person writes: which base, which packages,
// which files, users and services. A lock (recipe.lock) is what a build
// writes: the exact packages with their hashes, the id of every user and
// group, the time that every file carries. Building from a lock gives the
// same image, on another day and in another directory.
//
//	r, err := recipe.Load("recipes/server.toml")
//	l, err := recipe.LoadLock("recipes/server.lock")
//
// Reading is strict: an unknown key, a mode that is not octal, a user with a
// name that Debian would refuse are errors, and each names the file, the line
// and shows it. Recipes include others; docs/recipe.md has the merge rule and
// every key.
//
// Nothing here touches the network or runs a program; package compose does
// what a recipe says.
package recipe
