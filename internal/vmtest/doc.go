// Package vmtest boots a disk image in a virtual machine and talks to it.
//
// A VM is QEMU under OVMF, without KVM: the firmware, the loader, the boot file
// and systemd are the real ones, and nothing in the image is changed for the
// test. The disk is a qcow2 overlay, so any number of machines can start from
// one image, and each VM has its own store of EFI variables.
//
//	vm := vmtest.New(t, vmtest.Config{Base: "server.raw"})
//	if err := vm.Boot(ctx); err != nil {          // returns when commands can be run
//		t.Fatal(err)                              // says what the console said last
//	}
//	out, err := vm.Output(ctx, "findmnt -no FSTYPE /")
//	vm.PowerCut()                                 // the plug is pulled
//	err = vm.Edit(ctx, func(raw string) error {   // the disk, while off
//		offset, err := vmtest.FileOffset(ctx, raw, 2, "/ashlar/images/4f5a…")
//		…
//	})
//
// # How commands reach the guest
//
// systemd takes units from SMBIOS (systemd.system-credentials(7)): the VM is
// started with an extra unit, wanted by multi-user.target, that runs a loop of
// a few lines of shell over a virtio serial port (agent.sh). That works in
// every image whose recipe says foreign = "accept".
// Before the agent is there, and where it never will be, the console is what
// there is: WaitConsole and Type.
//
// # Power cuts
//
// PowerCut kills QEMU with SIGKILL. What the guest had flushed is on the disk;
// of what it had not, writes to new clusters of the overlay are lost where
// QEMU still held the metadata, writes to old ones are in the host's page
// cache and survive. So a cut loses a part of the unflushed writes and keeps
// others, in no order, as a disk with a volatile cache does.
//
// A machine whose Config says Record keeps a log of every write and flush instead,
// from which package writelog rebuilds the disk of a cut at any moment.
//
// No call sleeps: all of them wait for an event and end with their context.
package vmtest
