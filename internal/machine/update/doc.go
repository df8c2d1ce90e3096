// Package update changes what a machine boots: it stages releases, goes back,
// and clears away what no deployment needs.
//
// Every change is planned first. A plan is a value: --dry-run prints it, tests
// compare it, and applying walks it. Planning reads; only applying writes.
//
// # Staging
//
// The steps, in their order, and what a cut after each leaves:
//
//	fetched    objects and image, in the store's tmp/; the next run removes them
//	stored     the same under their names, sealed; the next run finds and uses them
//	described  the deployment directory; no boot entry names it yet
//	committed  the boot file under its counted name: the next boot is the new system
//
// The last step is one rename on the ESP (see package esp). Before it nothing
// has changed for the machine, after it everything has. Nothing that the running
// deployment uses is written to, renamed or removed, ever.
//
// # What a deployment is to the machine
//
// Roles are not stored. They follow from the boot files' names, which the loader
// changes too, and from the count of good boots in deployment.json:
//
//	running   the kernel's command line names its image
//	next      the loader's order puts its boot file first
//	staged    its boot file still counts tries, and it is not running
//	previous  of the others, the one that last booted well
//	retired   its boot file was put behind the others by a rollback (+0)
//	failed    the loader used up its tries (+0-N)
//	pinned    the administrator said so
//
// See docs/boot.md for the whole sequence.
package update
