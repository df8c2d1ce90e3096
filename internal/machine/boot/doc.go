// Package boot says what this machine booted and why, and plans what it boots
// next.
//
// What runs is on the kernel's command line, which the boot file carries and
// Secure Boot signs: ashlar.image=<digest>. How the loader came to it is in
// EFI variables that systemd-boot sets for one boot (the Boot Loader
// Interface, https://systemd.io/BOOT_LOADER_INTERFACE). They are only read:
// what boots next is decided by the names of the boot files alone, see
// package esp.
//
// A rollback is therefore a few renames, and PlanRollback chooses their order
// so that a machine cut between any two boots what it would have booted
// before, or the target, and nothing else.
package boot
