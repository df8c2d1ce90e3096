// Package torture records what a machine writes to its disk in its life, and looks
// at the disks that a power cut at any moment of it could have left.
//
// The machine is a real one: firmware, loader, kernel and systemd write what they
// write, in a virtual machine whose disk keeps a log (package vmtest/writelog). Its
// life is two updates over the network, first boots with merges of /etc, blesses, a
// rollback and a clean-up.
//
// A Judge looks at every disk without booting it. Nothing that it reads with is
// Ashlar's: e2fsck replays the journal and must then find nothing to repair; the
// partition table is read by sgdisk, FAT and ext4 by readers of their own; whether an
// image is whole is decided from its objects' bytes, hash trees and descriptors on
// the disk. A sample of the disks is booted (Boot).
//
// What must hold is DESIGN §5: the next boot is one of what runs, what went before
// and what was staged, whole; and no accepted byte is lost.
package torture
