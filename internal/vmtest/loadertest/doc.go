// Package loadertest asks a boot loader what it would start, for tests: the very
// program, under real firmware, with no operating system behind it.
//
// The ESP is a FAT made from a directory. Its boot files are programs of some forty
// bytes (Program) which look to the loader like unified kernel images: when one is
// started it names itself on a port of the machine and resets it, which ends the
// emulator. So a boot is firmware and loader and nothing else, a second or two under
// emulation, and what the loader changed on the ESP can be read when it is over.
package loadertest
