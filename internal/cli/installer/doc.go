// Package installer is the full-screen installer: five questions, the plan, the
// progress, the outcome.
//
//	disk      which one; of one with an Ashlar, whether its /var is kept; where
//	          there is another disk, whether that is for /var
//	language  language, keyboard, time zone
//	name      of the machine
//	user      the first one: password or SSH key
//	encrypt   whether the disk asks for a passphrase at every boot
//
// It fills an [install.Answers], as a file does, and shows the [install.Plan] that
// follows. Nothing is touched before that was agreed to; where a disk is not empty, by
// typing its name.
//
// It draws with letters alone, in 80 columns and 24 lines, and needs no more keys than
// a serial console sends: letters, Enter, Tab, Backspace, Esc and the arrows (or Ctrl-P and
// Ctrl-N). The model is a value that tests send keys to; only Run touches a terminal.
package installer
