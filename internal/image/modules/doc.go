// Package modules is the list of kernel modules that an initramfs carries:
// written by package initramfs, read by the first process of the boot.
//
// It answers three questions without the files of depmod(8): which modules to
// load in any case, which to load for a device that announces itself with a
// modalias, and what each needs loaded before it. The format is in
// docs/initramfs.md; an example:
//
//	ashlar-modules 1 6.12.48+deb13-amd64
//	module scsi_common matched
//	module scsi_mod matched scsi_common
//	module virtio_scsi matched scsi_common scsi_mod
//	module erofs always ?crc32c_intel libcrc32c
//	alias virtio_scsi virtio:d00000008v*
package modules
