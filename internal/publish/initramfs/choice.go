package initramfs

import "github.com/ashlar-os/ashlar/internal/image/modules"

// choice is a module that the initramfs carries when the kernel has it.
type choice struct {
	name     string
	when     modules.When
	required bool // the kernel must have it, as a module or built in
}

// choices are what finding and mounting the root can take, here and in the
// virtual machines that servers usually are. Nothing here is for a network.
var choices = []choice{
	{"efivarfs", modules.Always, true}, // says which disk the loader came from
	{"erofs", modules.Always, true},
	{"overlay", modules.Always, true},
	{"loop", modules.Always, true},
	{"ext4", modules.Named, true},
	{"btrfs", modules.Named, false},
	{"vfat", modules.Named, false}, // for the ESP, after a boot that failed
	{"nls_ascii", modules.Named, false},
	{"nls_cp437", modules.Named, false},

	// For a root that is encrypted, and for install media, whose payload dm-verity
	// seals. There is no modprobe here, so what the kernel would ask for by
	// algorithm has to be named: AES in XTS mode, with the processor's
	// instructions where it has them.
	{"aesni_intel", modules.Named, false},
	{"dm_crypt", modules.Named, false},
	{"dm_mod", modules.Named, false},
	{"dm_verity", modules.Named, false},
	{"ecb", modules.Named, false},
	{"xts", modules.Named, false},
	// Whose passphrase is typed on a USB keyboard.
	{"hid_generic", modules.Named, false},
	{"usbhid", modules.Named, false},

	{"aacraid", modules.Matched, false},
	{"ahci", modules.Matched, false},
	{"ata_piix", modules.Matched, false},
	{"ehci_pci", modules.Matched, false},
	{"hpsa", modules.Matched, false},
	{"hv_storvsc", modules.Matched, false},
	{"hv_vmbus", modules.Matched, false},
	{"megaraid_sas", modules.Matched, false},
	{"mmc_block", modules.Matched, false},
	{"mpi3mr", modules.Matched, false},
	{"mpt3sas", modules.Matched, false},
	{"mptsas", modules.Matched, false},
	{"mptspi", modules.Matched, false},
	{"nvme", modules.Matched, false},
	{"ohci_pci", modules.Matched, false},
	{"sd_mod", modules.Matched, false},
	{"sdhci_acpi", modules.Matched, false},
	{"sdhci_pci", modules.Matched, false},
	{"smartpqi", modules.Matched, false},
	{"sr_mod", modules.Matched, false},
	{"uas", modules.Matched, false},
	{"uhci_hcd", modules.Matched, false},
	{"usb_storage", modules.Matched, false},
	{"virtio_blk", modules.Matched, true},
	{"virtio_pci", modules.Matched, true},
	{"virtio_scsi", modules.Matched, false},
	{"vmd", modules.Matched, false},
	{"vmw_pvscsi", modules.Matched, false},
	{"xen_blkfront", modules.Matched, false},
	{"xhci_pci", modules.Matched, false},

	// Faster digests, for processors that can. The kernel chooses an
	// implementation when fs-verity first needs one and keeps it until the
	// machine is switched off, so they have to be there before.
	{"crc32c_intel", modules.Matched, false},
	{"sha256_ssse3", modules.Matched, false},
}
