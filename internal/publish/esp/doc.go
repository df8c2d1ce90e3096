// Package esp makes the file system of an EFI system partition, in its place in an
// image: FAT32, by mkfs.vfat and mtools, so without root, loop devices or mounts.
//
//	EFI/BOOT/BOOTX64.EFI              the loader, where firmware looks that knows nothing
//	EFI/Linux/….efi                   boot files; their names are the caller's
//	loader/loader.conf                see [Conf]
//	loader/keys/auto/{PK,KEK,db}.auth keys for the firmware, see [Enroll]
//
// The same files, ids and time give the same bytes.
package esp
