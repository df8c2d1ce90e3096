package sysroot

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/anatol/devmapper.go"
	"github.com/anatol/luks.go"
	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
)

// luksName is the mapped device's name, as cryptsetup would see it.
const luksName = gpt.NameRoot

// patience is how long after the last key a passphrase is waited for. Then the
// machine turns itself off: it is not to lie there for days, warm and half booted.
const patience = 10 * time.Minute

// spareMemory is what a key slot may not take of the free memory, in KiB.
const spareMemory = 64 << 10

// Modules that reading an encrypted disk takes, and keyboards. They are loaded
// when a disk turns out to be encrypted, and not at every boot.
var (
	cryptModules    = []string{"dm_mod", "dm_crypt", "ecb", "xts"}
	fasterModules   = []string{"aesni_intel"}
	keyboardModules = []string{"usbhid", "hid_generic"}
)

// Encryption is what is known of an encrypted partition.
type Encryption struct {
	Device string `json:"device"` // that holds the LUKS header, such as "/dev/vda2"
	UUID   string `json:"uuid"`   // of the header
	Wrong  int    `json:"wrong"`  // how many wrong passphrases were given at this boot
}

// unlock asks for the passphrase of the root partition until it is right, and
// maps what is in there. From then on that is the root device.
//
// A wrong passphrase costs no boot: it is said, and asked again. What the loader
// has counted for this boot stays counted while nobody answers, for a new kernel
// that does not know the keyboard looks just like that.
func (b *boot) unlock() error {
	device := b.disk.root
	if err := b.unlockFrom(device); err != nil {
		return fmt.Errorf("the encrypted disk %q: %w", device, err)
	}
	return nil
}

func (b *boot) unlockFrom(device string) error {
	header, volume, err := b.openLUKS(device)
	if err != nil {
		return err
	}
	defer volume.Close()
	for _, name := range keyboardModules {
		b.driver(name) // a serial line needs none
	}
	b.record.Encryption = &Encryption{Device: device, UUID: volume.UUID()}

	c := everyConsole()
	defer c.close()
	loadDrivers := func() {
		b.drivers.scan()
		for name := b.drivers.next(); name != ""; name = b.drivers.next() {
			b.driver(name)
		}
	}
	loadDrivers() // the search for the disk ended early, and the keyboard may be behind the next controller
	question := fmt.Sprintf("\r\nashlar: the disk %q is encrypted.\r\nPassphrase or recovery key: ", b.disk.disk)
	for {
		passphrase, err := c.ask(question, patience, b.events, loadDrivers)
		if err != nil {
			return err
		}
		err = openVolume(volume, header, passphrase, luksName)
		clear(passphrase)
		if !errors.Is(err, luks.ErrPassphraseDoesNotMatch) {
			if err == nil {
				b.disk.root, err = mapped(luksName)
			}
			return err
		}
		b.record.Encryption.Wrong++
		question = "ashlar: that is neither its passphrase nor its recovery key; nothing was changed, try again.\r\nPassphrase or recovery key: "
	}
}

// openLUKS loads what decrypting takes, and reads the header of an encrypted partition.
func (b *boot) openLUKS(device string) (*luksHeader, luks.Device, error) {
	if err := b.loader.loadAll(cryptModules); err != nil {
		return nil, nil, err
	}
	for _, name := range fasterModules {
		b.driver(name) // without it, it is slower
	}
	f, err := os.Open(device)
	if err != nil {
		return nil, nil, err
	}
	header, err := readLUKS(f)
	f.Close()
	if err != nil {
		return nil, nil, err
	}
	volume, err := luks.Open(device)
	return header, volume, err
}

// openVolume tries a passphrase with every key slot that this machine has the
// memory for, and maps the volume that one of them opens under that name.
func openVolume(d luks.Device, h *luksHeader, passphrase []byte, name string) error {
	slots, otherwise := h.affordable(freeMemory("/proc/meminfo") - spareMemory)
	if len(slots) == 0 {
		return fmt.Errorf("every key slot takes %d MiB of memory or more, and this machine has not that much free", otherwise>>10)
	}
	for _, slot := range slots {
		volume, err := d.UnsealVolume(slot, passphrase)
		debug.FreeOSMemory() // argon2's, which the next slot takes anew
		if errors.Is(err, luks.ErrPassphraseDoesNotMatch) {
			continue
		}
		if err != nil {
			return fmt.Errorf("key slot %d: %w", slot, err)
		}
		return volume.SetupMapper(name)
	}
	return luks.ErrPassphraseDoesNotMatch
}

// freeMemory is what programs can still take without pushing anything out, in KiB.
func freeMemory(meminfo string) int64 {
	f, err := os.Open(meminfo)
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) >= 2 && words[0] == "MemAvailable:" {
			n, _ := strconv.ParseInt(words[1], 10, 64) // else 0: nothing is known to be free
			return n
		}
	}
	return 0
}

// mapped is the path of a mapped device. The kernel names its node by number; the
// name under /dev/mapper is udev's to make.
func mapped(name string) (string, error) {
	info, err := devmapper.InfoByName(name)
	if err != nil {
		return "", fmt.Errorf("finding the mapped device %q: %w", name, err)
	}
	return filepath.Join("/dev", fmt.Sprintf("dm-%d", unix.Minor(info.DevNo))), nil
}
