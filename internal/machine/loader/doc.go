// Package loader keeps systemd-boot on the ESP up to date with the image that runs.
//
// There are two copies, and each of them can start the machine:
//
//	EFI/BOOT/BOOTX64.EFI             where firmware looks by itself
//	EFI/systemd/systemd-bootx64.efi  where an entry of the firmware points
//
// The loader says in the variable LoaderImageIdentifier which of them it was started
// from. That copy is proven, and nothing here writes to it. A newer loader goes into
// the other one, and the firmware is asked, by BootNext, to start that once. The
// variable is consumed by the firmware before it starts anything: whatever becomes
// of the try, the boot after it begins with the proven copy again. Only when a boot
// by the new copy was found good, it becomes the firmware's first choice, and then
// the old copy is replaced too.
//
//	proven old, other old    Try: other := new, BootNext := other
//	proven old, other new    the same once more, three times; then GiveUp: other := old
//	proven new, other old    Follow: the proven first in BootOrder, other := new
//	proven new, other new    nothing
//
// Every step is taken after a boot that was found good, one step a boot, and each
// can be cut anywhere: what starts the machine is the copy that nobody writes to.
// Where the firmware takes no variables, a new loader cannot be tried, so none is
// written: the machine goes on with the one that it has, and says so.
package loader
