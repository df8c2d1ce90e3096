// Package esp keeps the boot entries of a machine: unified kernel images (UKIs)
// in EFI/Linux on the EFI system partition, one per deployment, named
//
//	ashlar_<version>_<digest12>[+left[-done]].efi
//
// where digest12 is the start of the image's digest and the counter is
// systemd-boot's Automatic Boot Assessment: left tries remain, done were used.
// The loader counts down by renaming, a good boot removes the counter, and an
// entry with no try left is sorted behind all others. Nothing else on the
// machine decides what boots: there is no default entry and no EFI variable,
// so the directory listing is the whole truth and Entries returns it in the
// order in which systemd-boot 257 sorts it.
//
// Files that are not named like this belong to somebody else. They are listed,
// because the loader may boot them, and never touched.
//
// See docs/esp.md, and
// https://uapi-group.org/specifications/specs/boot_loader_specification/.
package esp
