// Package crashtest enumerates what a power cut can leave of a machine's two
// file systems, for tests.
//
// A verb runs as a real process on a real directory, and every system call by
// which it changes or flushes that directory is recorded with its data (Record).
// From the recording alone the disk is then rebuilt as it may be found after a
// cut at any moment. Nothing of the code under test takes part in that, nor in
// reading the result: trees are read from memory, the ESP by a FAT reader of its
// own.
//
// # What a cut may leave of the store
//
// A store's file system (ext4 with data=ordered, btrfs) promises less than the
// order of the calls suggests, and the two promise different things. So the model
// is weaker than either, and what holds in it holds on both:
//
//   - What fsync(2) or syncfs(2) has returned for is there. fsync of a file covers
//     its content and length, not its name; fsync of a directory the names in it;
//     syncfs everything.
//   - Of the changes since, any subset may be there: names in any order, content
//     without the name or the name without the content. That is the state space of
//     ALICE (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014),
//     where ext4 and btrfs were both found to reorder, and of CrashMonkey (Mohan et
//     al., "Finding Crash-Consistency Bugs with Bounded Black-Box Crash Testing",
//     OSDI 2018).
//   - One rename is atomic, between directories too: it is one transaction of the
//     journal, or one of the tree.
//   - A file's fs-verity flag is one of these changes, and it is set when the content
//     and the hash tree have been written (Documentation/filesystems/fsverity.rst).
//   - Content that was not flushed may be missing altogether, so that a renamed
//     file is empty (ext4's delayed allocation; Documentation/admin-guide/ext4.rst,
//     "auto_da_alloc"), end early, be zeros, or have later pages without earlier ones.
//
// # What a cut may leave of the ESP
//
// FAT has no journal, so the ESP is modelled by sectors of 512 bytes, each of which
// is written whole or not at all. To record what the kernel's own vfat writes to a
// device would prove more, but neither the module nor the right to mount can be had
// wherever these tests run. So VFAT is a model: it does with sectors what Linux
// 6.12 does (fs/fat: namei_vfat.c, dir.c, inode.c, fatent.c), in its order, with what
// is peculiar to it:
//
//   - vfat_rename writes the new name with no first cluster and a length of zero.
//     Both come with the inode, which is written when it pleases the kernel, unless
//     the mount has dirsync; meanwhile the old name is removed.
//   - a name of more than eight characters is several slots of 32 bytes, which may
//     lie in two sectors. Of a name that is cut so, the 8.3 alias remains, and the
//     loader sees a file ASHLAR~1.EFI that it does not count.
//   - fsync of a file writes its data, its slot and the whole allocation table;
//     fsync of a directory its slots and the table, but no file's length. Both then
//     flush the drive's cache. syncfs writes everything and does not: fat_sops has no
//     sync_fs.
//
// Between two flushes any subset of the sectors that were written may have reached
// the disk, each in any of the versions that it had: the drive's cache keeps no
// order. An ordered drive is the special case of prefixes, and is tried too. Free
// clusters are taken from the front, where Linux goes on behind the last one that
// it took: what a removed file had is used again as soon as can be.
package crashtest
