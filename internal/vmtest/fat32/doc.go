// Package fat32 reads a FAT32 file system from anything that can be read, without
// a mount, as a boot loader would: names, lengths, chains of clusters.
//
// It is strict where a loader may be lucky: a chain that ends early, or leaves the
// file system, or that two files share, is an error of that file. What nobody refers
// to, such as clusters that were allocated for a file whose name did not arrive, is
// none. After Microsoft's "FAT: General Overview of On-Disk Format", version 1.03.
//
//	fs, err := fat32.Open(partition)
//	for _, file := range fs.Files() {             // all of them
//		content, err := file.ReadAll()        // or why it cannot be read
//	}
package fat32
