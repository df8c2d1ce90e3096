// Package drive knows the drives of a computer: what they are, what is on them,
// and which of them must not be written.
//
// Nobody should find out by accident that the stick was called sdc today. So a
// drive is known by model, serial number, size and content, and [Host.Judge]
// refuses, in one sentence with a cure:
//
//   - whatever the computer runs from: /, /usr, /var, /boot, swap, also through
//     LVM, RAID, dm-crypt and loop devices;
//   - the drive on which the image to be written is;
//   - what is mounted, or in use by LVM, RAID or device-mapper;
//   - what is not removable, or larger than [MaxSize], unless it is named by its
//     serial number too;
//   - what is too small, write-protected, empty (a card reader), or no drive.
//
// The kernel is the second lock: [Open] opens a drive exclusively, which fails
// while anything else uses it, whatever sysfs says.
//
// Facts come from sysfs, /proc/self/mountinfo and /proc/swaps
// (https://docs.kernel.org/admin-guide/sysfs-rules.html); what is on a drive is
// read from its own signatures. Host.Root puts another directory before all of
// it, so that tests make up computers.
package drive
