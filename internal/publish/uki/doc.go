// Package uki assembles boot files: unified kernel images, one PE program
// holding everything that the firmware has to check before Linux runs.
//
// A boot file is systemd's EFI stub, taken from the tree it is to boot, with
// these sections behind the stub's own, in this order (.linux last, because the
// stub lets a kernel that grows use the memory behind it):
//
//	.osrel    os-release: the loader shows and sorts by it
//	.cmdline  kernel command line; ashlar.image= names the image
//	.uname    kernel version
//	.initrd   the initramfs, not compressed (see package initramfs)
//	.linux    the kernel as the distribution ships it
//
// The stub's own .sbat (shim's revocation data) is kept; lines of the publisher
// are added to it in place.
//
// The result depends on the inputs alone, also when it is signed: the
// signature carries no time. Contents are read twice and never held in
// memory, once for the signature and the checksum and once for writing.
//
// Formats: UAPI.5 Unified Kernel Image, https://uapi-group.org/specifications/specs/unified_kernel_image/;
// Microsoft's "PE Format" and "Windows Authenticode Portable Executable Signature Format".
package uki
