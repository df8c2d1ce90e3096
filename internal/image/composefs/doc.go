// Package composefs makes and reads images: a tree as a composefs EROFS file.
//
// Such a file holds names, metadata, extended attributes and the content of the
// smallest files. Of every other file it holds the place and the fs-verity digest
// of an object, in the extended attributes trusted.overlay.redirect and
// trusted.overlay.metacopy, so that overlayfs, with the image as its lower layer
// and the objects as a data-only layer below, shows the tree, and the kernel
// checks each content against the image. The image itself is named by its own
// fs-verity digest; one digest thus stands for a whole root file system.
//
//	tree --Write--> image --Read--> tree
//	dump --ParseDump--> tree --WriteDump--> dump
//
// Images are, byte for byte, those of mkcomposefs 1.0.8 for the same dump, with
// its default versions. The file is described to the last field in
// docs/composefs.md; the text form of a tree, the dump, in composefs-dump(5).
// EROFS is described at
// https://erofs.docs.kernel.org/en/latest/core_ondisk.html.
//
// # What is lost
//
// Read gives back the tree that was written, as far as an image can tell:
//   - which of several hard links was the first name is not in an image; Read
//     takes one that gives the same image again;
//   - the number of links of a directory is always counted: two and one for each
//     directory in it;
//   - a whiteout's size and content, and attributes of the tree by which the
//     image itself marks whiteouts, are replaced by the image's.
//
// # Cost
//
// Writing takes time and memory in proportion to the number of inodes: beside the
// tree 40 bytes for an inode and eight or less for each extended attribute. The
// image goes to an io.Writer as it comes into being and is never whole in memory.
package composefs
