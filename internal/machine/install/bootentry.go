package install

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/efivar"
	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/machine/boot"
)

// The firmware's list of what to start: variables Boot0000 to BootFFFF, each a load
// option, and their order in BootOrder (UEFI specification 2.10, §3.1 and §3.3).

// loaderOnESP is what the entry starts.
const loaderOnESP = `\EFI\systemd\systemd-bootx64.efi`

// maxEntries is how many numbers are tried for a new entry.
const maxEntries = 256

// enter puts a new system first in the firmware's order. An entry of the ESP that
// was on this disk before gives it its number: old is that partition's id, or zero.
func enter(system, title string, esp Partition, sector int64, old gpt.UUID) error {
	order, err := boot.Variable(system, variable("BootOrder"))
	if err != nil {
		return err
	}
	option := loadOption(title, esp, sector)
	number, have := -1, []byte(nil)
	for n := range maxEntries {
		b, err := boot.Variable(system, variable(fmt.Sprintf("Boot%04X", n)))
		if err != nil {
			return err
		}
		mixed := old.Mixed()
		if b != nil && !old.IsZero() && bytes.Contains(b, mixed[:]) {
			number, have = n, b
			break
		}
		if b == nil && number < 0 {
			number = n
		}
	}
	if number < 0 {
		return errors.New("the firmware's list of boot entries is full")
	}
	if !bytes.Equal(have, option) {
		if err := setVariable(system, fmt.Sprintf("Boot%04X", number), option); err != nil {
			return err
		}
	}
	first := binary.LittleEndian.AppendUint16(nil, uint16(number))
	for rest := order; len(rest) >= 2; rest = rest[2:] {
		if !bytes.Equal(rest[:2], first[:2]) {
			first = append(first, rest[:2]...)
		}
	}
	if bytes.Equal(first, order) {
		return nil
	}
	return setVariable(system, "BootOrder", first)
}

func variable(name string) string {
	return efivar.Variable{Name: name, Vendor: efivar.VendorGlobal}.File()
}

// setVariable writes a variable, in the one write(2) that efivarfs wants.
func setVariable(system, name string, value []byte) (err error) {
	const attributes = 7 // non-volatile, for boot services, at run time
	path := boot.VariablePath(system, variable(name))
	// efivarfs makes variables immutable, so that nobody deletes them by accident.
	if f, err := os.Open(path); err == nil {
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0) // the write says what came of it
		f.Close()
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("writing the firmware's variable %q: %w", name, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(append([]byte{attributes, 0, 0, 0}, value...)); err != nil {
		return fmt.Errorf("writing the firmware's variable %q: %w", name, err)
	}
	return nil
}

// loadOption is an EFI_LOAD_OPTION: attributes, length of the path, title, path.
func loadOption(title string, esp Partition, sector int64) []byte {
	le := binary.LittleEndian
	path := le.AppendUint16([]byte{0x04, 0x01}, 42) // media, hard drive (§10.3.5.1)
	path = le.AppendUint32(path, uint32(esp.Number))
	path = le.AppendUint64(path, uint64(esp.Start/sector))
	path = le.AppendUint64(path, uint64(esp.Size/sector))
	id := esp.entry.ID.Mixed()
	path = append(path, id[:]...)
	path = append(path, 2, 2) // GPT, known by its GUID
	file := ucs2(loaderOnESP)
	path = append(path, 0x04, 0x04) // media, file path (§10.3.5.4)
	path = le.AppendUint16(path, uint16(4+len(file)))
	path = append(path, file...)
	path = append(path, 0x7f, 0xff, 4, 0) // end

	option := le.AppendUint32(nil, 1) // active
	option = le.AppendUint16(option, uint16(len(path)))
	option = append(option, ucs2(title)...)
	return append(option, path...)
}

func ucs2(s string) (b []byte) {
	for _, unit := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return b
}

// hasVariables reports whether the firmware has variables to write to.
func hasVariables(system string) bool {
	list, err := os.ReadDir(strings.TrimSuffix(filepath.Clean(boot.VariablePath(system, "")), "/"))
	return err == nil && len(list) > 0
}
