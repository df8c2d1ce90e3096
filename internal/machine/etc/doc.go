// Package etc carries a machine's changes of /etc from one image to the next.
//
// /etc is an overlay: the image's /usr/etc below, what this machine changed
// above. A new deployment has a new lower layer, so its upper layer has to be
// made anew: a three-way merge of
//
//	base    /usr/etc of the image the changes were made on
//	mine    the overlay upper directory of that deployment
//	theirs  /usr/etc of the new image
//
// into a new upper directory. It runs at the new deployment's first boot, when
// nothing writes to any of the three, and writes to none of them.
//
// What only the machine changed stays changed. What only the image changed
// arrives by itself, for the new upper directory says nothing about it. What
// both changed is merged where that has one meaning: account files line by
// line by name, other text by lines, metadata field by field. Where it has
// none, the machine's version stays in place, the image's is put beside it as
// NAME.ashlar-new, and the report says so. What both changed alike, or what
// the image caught up with, leaves the upper directory, so that it never holds
// more than the difference: drift is exactly the upper layer.
//
// Merge plans first and then applies, and Preview is the plan alone. The rules
// in full are docs/etc-merge.md.
//
// The package is linked into ashlar-init and stays small for that.
package etc
