package sysroot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"
)

// loaderDevice is the variable in which systemd-boot and the stub leave the
// partition that they were started from
// (https://systemd.io/BOOT_LOADER_INTERFACE/).
const loaderDevice = "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// maxEFIVar bounds a variable that holds one UUID, in bytes.
const maxEFIVar = 1024

// bootPartition returns the partition UUID of the ESP that this boot came from,
// in lower case, or "" when nobody left it.
func bootPartition(efivars string) (string, error) {
	b, err := os.ReadFile(filepath.Join(efivars, loaderDevice))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the EFI variable %s: %w", loaderDevice, err)
	}
	s, err := decodeEFIString(b)
	if err != nil {
		return "", fmt.Errorf("EFI variable %s: %w", loaderDevice, err)
	}
	s = strings.ToLower(s)
	if !isUUID(s) {
		return "", fmt.Errorf("EFI variable %s is %.64q, which is no UUID", loaderDevice, s)
	}
	return s, nil
}

// decodeEFIString decodes what efivarfs gives for a string: four bytes of
// attributes, then UTF-16 to the first NUL.
func decodeEFIString(b []byte) (string, error) {
	if len(b) < 4 || len(b) > maxEFIVar || len(b)%2 != 0 {
		return "", fmt.Errorf("it has %d bytes, which is no string", len(b))
	}
	var units []uint16
	for b = b[4:]; len(b) >= 2; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units)), nil
}

// isUUID reports whether s is a UUID in lower case.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
