package loader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/efivar"
	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/limited"
	"github.com/ashlar-os/ashlar/internal/machine/boot"
)

// The firmware's list of what to start: variables Boot0000 and on, each a load option,
// their order in BootOrder, and in BootNext the one to start once (UEFI specification
// 2.10, §3.1 and §3.3).

// maxEntries is how many numbers are tried for a new entry.
const maxEntries = 256

// hasVariables reports whether the firmware has variables to write to.
func (m *Machine) hasVariables() bool {
	dir := boot.VariablePath(m.Root, "")
	list, err := os.ReadDir(dir)
	return err == nil && len(list) > 0 && unix.Access(dir, unix.W_OK) == nil
}

// enter returns the number of the entry that starts a copy, which is made where there
// is none. A new one is in no order, and so is never started by itself.
func (m *Machine) enter(file string) (uint16, error) {
	path, err := m.devicePath(file)
	if err != nil {
		return 0, err
	}
	free := -1
	for n := range maxEntries {
		b, err := boot.Variable(m.Root, bootVariable(uint16(n)))
		switch {
		case err != nil:
			return 0, err
		case b == nil && free < 0:
			free = n
		case bytes.HasSuffix(b, path): // whatever its title
			return uint16(n), nil
		}
	}
	if free < 0 {
		return 0, errors.New("the firmware's list of boot entries is full")
	}
	option := binary.LittleEndian.AppendUint32(nil, 1) // active
	option = binary.LittleEndian.AppendUint16(option, uint16(len(path)))
	option = append(option, ucs2("Ashlar ("+filepath.Base(filepath.Dir(file))+")")...)
	return uint16(free), m.setVariable(bootVariable(uint16(free)), append(option, path...))
}

func (m *Machine) startNext(number uint16) error {
	return m.setVariable(variable("BootNext"), binary.LittleEndian.AppendUint16(nil, number))
}

// startFirst puts an entry before all others.
func (m *Machine) startFirst(number uint16) error {
	order, err := boot.Variable(m.Root, variable("BootOrder"))
	if err != nil {
		return err
	}
	first := binary.LittleEndian.AppendUint16(nil, number)
	next := slices.Clone(first)
	for rest := order; len(rest) >= 2; rest = rest[2:] {
		if !bytes.Equal(rest[:2], first) {
			next = append(next, rest[:2]...)
		}
	}
	if bytes.Equal(next, order) {
		return nil
	}
	return m.setVariable(variable("BootOrder"), next)
}

// devicePath leads to a file on the ESP that this boot came from (§10.3.5).
func (m *Machine) devicePath(file string) ([]byte, error) {
	state, err := boot.ReadState(m.Root)
	if err != nil {
		return nil, err
	}
	id, err := gpt.Parse(state.ESP)
	if err != nil {
		return nil, fmt.Errorf("the partition that the loader was started from is not known: %w", err)
	}
	// By the name that udev gives it; its numbers are the kernel's.
	target, err := os.Readlink(filepath.Join(m.Root, "dev/disk/by-partuuid", state.ESP))
	if err != nil {
		return nil, err
	}
	// /sys/class/block holds links to the partitions, each in its disk's directory.
	class, err := filepath.EvalSymlinks(filepath.Join(m.Root, "sys/class/block", filepath.Base(target)))
	if err != nil {
		return nil, err
	}
	var numbers [3]uint64
	for i, name := range []string{"partition", "start", "size"} {
		if numbers[i], err = readNumber(filepath.Join(class, name)); err != nil {
			return nil, err
		}
	}
	sector, err := readNumber(filepath.Join(filepath.Dir(class), "queue/logical_block_size"))
	if err != nil {
		return nil, err
	}
	if sector < 512 {
		return nil, fmt.Errorf("the disk's sectors have %d bytes", sector)
	}
	le := binary.LittleEndian
	path := le.AppendUint16([]byte{0x04, 0x01}, 42) // media, hard drive
	path = le.AppendUint32(path, uint32(numbers[0]))
	path = le.AppendUint64(path, numbers[1]*512/sector) // the kernel counts in 512 bytes
	path = le.AppendUint64(path, numbers[2]*512/sector)
	mixed := id.Mixed()
	path = append(append(path, mixed[:]...), 2, 2) // GPT, known by its GUID
	name := ucs2(`\` + strings.ReplaceAll(file, "/", `\`))
	path = le.AppendUint16(append(path, 0x04, 0x04), uint16(4+len(name))) // media, file path
	path = append(path, name...)
	return append(path, 0x7f, 0xff, 4, 0), nil // end
}

func readNumber(path string) (uint64, error) {
	b, err := limited.File(path, 64)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 48)
	if err != nil {
		return 0, fmt.Errorf("%q: %w", path, err)
	}
	return n, nil
}

func bootVariable(number uint16) string { return variable(fmt.Sprintf("Boot%04X", number)) }

func variable(name string) string {
	return efivar.Variable{Name: name, Vendor: efivar.VendorGlobal}.File()
}

// setVariable writes a variable, in the one write(2) that efivarfs wants.
func (m *Machine) setVariable(name string, value []byte) (err error) {
	const attributes = 7 // non-volatile, for boot services, at run time
	path := boot.VariablePath(m.Root, name)
	// efivarfs makes variables immutable, so that nobody deletes them by accident.
	if f, err := os.Open(path); err == nil {
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0) // the write says what came of it
		f.Close()
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("writing the firmware's variable %q: %w", name, err)
	}
	_, err = f.Write(append([]byte{attributes, 0, 0, 0}, value...))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing the firmware's variable %q: %w", name, err)
	}
	return nil
}

func ucs2(s string) (b []byte) {
	for _, unit := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return b
}
