package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/limited"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
)

const (
	cmdlineFile = "proc/cmdline"
	efiDir      = "sys/firmware/efi/efivars"

	loaderVendor = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f" // systemd's
	globalVendor = "8be4df61-93ca-11d2-aa0d-00e098032b8c" // the firmware's own

	maxCmdline  = 64 << 10
	maxVariable = 1 << 20 // bytes; names and ids are below 1 KiB, Microsoft's dbx has some 24
)

// ErrNotAshlar is returned where the running kernel was not told which image it boots.
var ErrNotAshlar = errors.New("this system was not booted by Ashlar: no ashlar.image= on the kernel's command line")

// State is what is known about the boot that brought this system up. Strings
// are empty where the loader or the firmware did not say.
type State struct {
	Image      verity.Digest `json:"image"`
	EFI        bool          `json:"efi"`
	Loader     string        `json:"loader"`      // such as "systemd-boot 257.13-1"
	ESP        string        `json:"esp"`         // partition UUID the loader was started from, lower case
	Entry      string        `json:"entry"`       // id of the entry that was chosen
	CountPath  string        `json:"count_path"`  // boot file on the ESP that is being counted; empty when its boot was good before
	SecureBoot bool          `json:"secure_boot"` // the firmware checks signatures
}

// Counted reports whether this boot has to prove itself.
func (s *State) Counted() bool { return s.CountPath != "" }

// Running returns the image of the running system; root is "/" but in tests.
func Running(root string) (verity.Digest, error) {
	b, err := limited.File(filepath.Join(root, cmdlineFile), maxCmdline)
	if err != nil {
		return verity.Digest{}, fmt.Errorf("finding the running image: %w", err)
	}
	d, err := esp.ImageOf(string(b))
	if err != nil {
		return d, fmt.Errorf("finding the running image: %q: %w", "/"+cmdlineFile, err)
	}
	if d.IsZero() {
		return d, ErrNotAshlar
	}
	return d, nil
}

// ReadState reads the command line and the EFI variables below root.
func ReadState(root string) (*State, error) {
	d, err := Running(root)
	if err != nil {
		return nil, err
	}
	s := &State{Image: d}
	if _, err := os.Stat(filepath.Join(root, efiDir)); err != nil {
		return s, nil // not EFI, or the variables are not mounted
	}
	s.EFI = true
	for _, v := range []struct {
		name string
		to   *string
	}{
		{"LoaderInfo", &s.Loader},
		{"LoaderDevicePartUUID", &s.ESP},
		{"LoaderEntrySelected", &s.Entry},
		{"LoaderBootCountPath", &s.CountPath},
	} {
		b, err := Variable(root, v.name+"-"+loaderVendor)
		if err != nil {
			return nil, err
		}
		if *v.to, err = DecodeUTF16(b); err != nil {
			return nil, fmt.Errorf("reading EFI variable %q: %w", v.name, err)
		}
	}
	s.ESP = strings.ToLower(s.ESP)
	s.CountPath = strings.ReplaceAll(s.CountPath, `\`, "/")
	b, err := Variable(root, "SecureBoot-"+globalVendor)
	if err != nil {
		return nil, err
	}
	s.SecureBoot = len(b) == 1 && b[0] == 1
	return s, nil
}

// VariablePath is where the EFI variable NAME-VENDOR is, below root.
func VariablePath(root, file string) string { return filepath.Join(root, efiDir, file) }

// Variable returns the content of the EFI variable NAME-VENDOR, nil when it is
// not set. efivarfs puts four bytes of attributes in front.
func Variable(root, file string) ([]byte, error) {
	b, err := limited.File(VariablePath(root, file), maxVariable)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading EFI variable %q: %w", file, err)
	}
	if len(b) < 4 {
		return nil, fmt.Errorf("reading EFI variable %q: %d bytes are too few", file, len(b))
	}
	return b[4:], nil
}

// DecodeUTF16 reads the text of a variable, UCS-2 up to the first zero, as the loader writes it.
func DecodeUTF16(b []byte) (string, error) {
	if len(b)%2 != 0 {
		return "", fmt.Errorf("%d bytes are no UTF-16", len(b))
	}
	var units []uint16
	for ; len(b) > 0; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units)), nil
}
