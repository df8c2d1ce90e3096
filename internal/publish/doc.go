// Package publish turns a recipe into a release in an OCI layout.
//
// The work is done by the packages below it, in this order; each step's result
// is a file in the work directory, and the layout is written last, at once:
//
//	recipe     reads recipe and lock
//	compose    packages, files and rules become a tree and a spool of objects
//	composefs  the tree becomes the image, whose digest is the release's identity
//	initramfs  ashlar-init and the modules that root needs
//	uki        the boot file, whose command line names the image
//	pack       the layer that is also the object pack
//	medium     where it is asked for, the medium that installs the release
//	registry   image, release document and SBOM, tagged by version
//
// Nothing here asks the clock: the one time that enters a release is the
// lock's epoch.
package publish
