// Package initramfs makes the archive that the kernel unpacks as its first
// root: ashlar-init as /init, and the kernel modules that reaching the root
// partition can take.
//
// It is a "newc" cpio, deterministic and not compressed: a compressed one is
// paid for whole at every update, a plain one costs next to nothing
// (docs/initramfs.md has the figures). The firmware loads it as part of the
// boot file, so its size matters little and its stability much: modules are
// stored decompressed, in the order of their names, under names without the
// kernel's version.
//
// Which modules those are is decided here, once, from the tree's own modules.dep,
// modules.softdep, modules.alias and modules.builtin; on the machine a list of
// them (package image/modules) replaces depmod's files.
package initramfs
