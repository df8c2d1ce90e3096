// Package diskimage writes a release as the disk of a machine: a file that a
// virtual machine boots and that can be copied to a real disk.
//
//	LBA 0      protective MBR, GPT; the backup GPT is at the end
//	1 MiB      partition 1, ESP: FAT32
//	             EFI/BOOT/BOOTX64.EFI, EFI/systemd/systemd-bootx64.efi
//	             EFI/Linux/ashlar_<version>_<digest12>.efi
//	             loader/loader.conf
//	after it   partition 2, root: ext4 with fs-verity, label ashlar-root
//	             /ashlar/objects/ab/cdef…  /ashlar/images/<digest>
//	             /ashlar/deployments/<digest>/deployment.json
//	             /ashlar/{var,trust,tmp}/  /ashlar/unsealed
//
// docs/disk.md has it to the last field.
//
// Nothing here needs root, a loop device or a mount: file systems are made at
// their place in the file by mkfs.vfat, mtools, mke2fs and debugfs. Files are
// read once and written once; the image is sparse, so it costs its content.
//
// The same release, options and tools give the same bytes. Every GUID, UUID
// and volume id is derived from the image's digest and a seed, every time is
// the release's. Two disks of one image therefore have equal ids: that is
// harmless until both are in one machine, and another Seed avoids it.
//
// fs-verity cannot be enabled from outside a kernel, so the objects are not
// yet sealed: the file /ashlar/unsealed says so. The first boot seals them,
// checks every digest, and removes it.
package diskimage
