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
//	planned    the image, in the store's tmp/; the next run removes it
//	admitted   under Secure Boot the boot file as well: firmware would start it
//	fetched    objects under their names, sealed, some 64 MB at a time; the next run uses them
//	stored     all of them, and the image
//	described  the deployment directory; no boot entry names it yet
//	committed  the boot file under its counted name: the next boot is the new system
//	ordered    what was staged before is gone; what would sort before the new one is retired
//
// The commit is one rename on the ESP (see package esp). Before it nothing has
// changed for the machine. After it the new system is complete, and the first
// of its image; only where an older release, or one of an image that sorts
// later, is wanted does the order take more renames, and a cut between them
// boots what runs. Nothing that the running deployment uses is written to or
// removed, ever.
//
// # Believing
//
// A plan is only made from a [Finding], and a finding is of a release that its
// publisher signed: [Machine.Check] reads the repository's signed metadata,
// believes it as package trust does, from the root in the image that runs, and
// takes the release by the digest that is signed. Looking takes no lock. What was
// accepted is kept below the store's trust/, so that nothing older is believed
// later, and so that [Machine.Vouches] can say, without a network, who vouches for
// what is here.
//
// # What a deployment is to the machine
//
// Roles are not stored. They follow from the boot files' names, which the loader
// changes too, and from the count of good boots in deployment.json:
//
//	running   the kernel's command line names its image
//	next      the loader's order puts its boot file first
//	staged    the first, of what does not run, with tries to prove itself
//	previous  of the others that did not fail, the one that last booted well
//	retired   its boot file was put behind the others by a rollback (+0)
//	failed    the loader used up its tries (+0-N)
//	pinned    the administrator said so
//
// Clearing up removes what is neither running, next, staged, previous nor
// pinned, and nothing that has a boot file while what runs is on trial. Of a
// release that failed or was retired before it ever booted well, aside.json
// remains, so that it is not staged again until somebody says so.
//
// See docs/update.md for all of it, and docs/boot.md for the boot itself.
package update
