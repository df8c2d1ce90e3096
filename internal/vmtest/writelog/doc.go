// Package writelog reads what a virtual machine wrote to its disk, and rebuilds
// the disk as a power cut would have left it.
//
// The log is what QEMU's block filter blklogwrites writes
// (https://www.qemu.org/docs/master/system/qemu-block-drivers.html), in the format of
// Linux's dm-log-writes
// (https://docs.kernel.org/admin-guide/device-mapper/log-writes.html), little-endian:
//
//	sector 0      magic 0x006a736677736872, version 1 (64 bits each), number of
//	              entries (64), bytes in a sector of the log (32)
//	each entry    a sector: first sector of the disk (64), number of sectors (64),
//	              flags (64), bytes of a mark's text (64); then the data
//
// Flags: 1 flush, 2 FUA, 4 discard, 8 mark. A discard has no data; a mark's text is
// in the sector of the entry. QEMU counts the entries anew at every flush, so what
// was written after the last one is behind the count; a log is read as far as it counts.
//
//	log, err := writelog.Open("writes-1.log", "writes-2.log")
//	disk, err := log.Replay(base, size)           // an io.ReaderAt
//	for _, cut := range log.Cuts(1, 5) {          // in the order of the log
//		err := disk.Seek(cut)                 // it is now the disk after that cut
//		…
//	}
//
// Nothing is copied for that: a Replay knows for each sector who wrote it. Programs
// that need a file get an Image, which follows the replay.
//
// # What a cut leaves
//
// A disk with a volatile cache has, after a cut, everything that was complete when
// the last completed flush began. Of what was written since, each sector of 512
// bytes may be there or not, independent of all others and of their order: that is
// what a drive promises, and no more. The entries between two flushes are an epoch.
// Cuts are made in every epoch:
//
//	Dropped  nothing of the epoch arrived
//	Prefix   the drive kept the order: the first writes arrived, and the others not
//	Some     each write arrived or not
//	Torn     as Some, and of every other write that arrived only some sectors
//	Only     one write arrived
//	Missing  all arrived but one
//
// A discarded range reads as zeros where the discard arrived, and else as before.
// Of a sector that was written twice in one epoch, the versions may be one, the
// other, or neither.
//
// # What the log cannot tell
//
// QEMU logs a write when it is complete, and a flush likewise. A write that was
// submitted while a flush was going on, and complete before it, is in the log
// before the flush, though the drive need not have covered it. Such a write is
// taken for durable here, where it may not be. No guest relies on it, as it did not
// wait; but a guest whose bug it is to rely on it passes.
package writelog
