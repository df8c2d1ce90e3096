// Package install puts the release of an install medium on a disk.
//
// What is wanted is an [Answers], from a file or from whoever sat at the terminal.
// With what is known of the disks and of the medium it becomes a [Plan]: a value that
// is printed, shown and agreed to before anything is touched. [Installer.Run] walks it:
//
//	wiped      the disk has no partition table any more; nothing boots from it
//	divided    GPT: ESP, root; on another disk /var, where that is wanted
//	emptied    the ESP has no boot sector, and then no tables and directories
//	formatted  FAT32; LUKS2, where it is wanted; ext4 with fs-verity
//	staged     objects, image, deployment and boot file, exactly as by an update
//	settled    where /var is, the deployment's /etc and the user's home directory
//	verified   every object and the image, read back from the disk
//	reported   /var/log/ashlar/install.json and the history
//	bootable   the loader is on the ESP: the first moment at which the disk boots
//	entered    the firmware's boot entry, where it takes one
//
// The loader goes last, and each of its files by one rename. So a cut at any moment
// before leaves a disk that firmware passes over, and one after it a system that is
// whole. The medium installs again in either case; it is never written to.
//
// # The wrong disk
//
// A disk is named by an id that says model and serial number and that stays the same
// whatever else is plugged in. Where there are several it has to be named; where
// there is something on it, it has to be named a second time, as what is to be erased. What
// the medium is on, and what is in use, is never taken.
//
// # Who is believed
//
// The release has to be signed, which the medium's papers prove from the root of
// trust in the image that the medium started ([update.Machine.CheckMedium]); the image on the disk is
// the one that was signed because its digest is, and its objects because they are
// measured. The answers are not signed by anybody: they are the wish of who has
// the medium in hand.
//
// docs/install.md has the answers and the report to the last field.
package install
