// Package sysroot is the first process of every boot: from the kernel's
// hand-over to systemd, with a root that nobody can write to.
//
// It does, in this order (docs/boot.md explains each step):
//
//	devices   mount /proc, /sys, /dev, /run; load the modules that this machine needs
//	disk      find the root partition, on the disk that the boot file came from
//	root      mount it
//	seal      at the first boot of a disk image, seal every object and image
//	image     open the image, let the kernel measure it, mount its tree
//	var       where /var has a disk of its own, find and mount that
//	etc       at a deployment's first boot, merge /etc; mount it, /var, /sysroot
//	handover  leave a note in /run/ashlar/boot.json, become systemd
//
// Where the root partition is encrypted, it asks for the passphrase. With
// ashlar.medium= on the command line it boots from an install medium instead: the
// payload is found by content and checked as a whole, and what is written stays in memory.
//
// What it trusts is the kernel command line, which is part of the signed boot
// file. From there the kernel checks every byte: the image against the command
// line, each object against the image.
//
// A step that fails ends the boot: one sentence on the console says what is
// wrong, and the machine reboots, so that the loader's counting takes its
// course; a medium has none to take, and turns the computer off. There is no shell,
// and no question is asked but for a passphrase.
//
// Everything here can be cut at any moment: what is written is written under
// another name first, and what is half done is done again.
package sysroot
