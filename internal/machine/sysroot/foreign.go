package sysroot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ownCmdline is, in the initramfs, the kernel command line that the boot file
// was built with. An image for tests, which takes any, has none
// (docs/initramfs.md).
const ownCmdline = "/cmdline"

// Limits of what is said about what others brought.
const (
	maxNamed = 8   // words or files that are named
	maxWord  = 100 // bytes of each
)

// readCmdline reads the command line that the kernel was given and the boot
// file's own. What to boot is taken from the latter: both are compared when the
// disk is there that a refusal can be written to.
func (b *boot) readCmdline(given, own string) error {
	line, err := os.ReadFile(given)
	if err != nil {
		return fmt.Errorf("reading the kernel command line: %w", err)
	}
	b.given, b.own, b.record.Foreign = string(line), string(line), ForeignAccept
	switch line, err := os.ReadFile(own); {
	case err == nil:
		b.own, b.record.Foreign = string(line), ForeignRefuse
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("reading the boot file's command line: %w", err)
	}
	b.params, err = parseCmdline(b.own)
	b.record.Image = b.params.image
	return err
}

// refuseForeign ends the boot when somebody changed the kernel's command line,
// and puts aside what else came from outside of the boot file.
//
// The stub appends what SMBIOS strings and addons say, SMBIOS under Secure Boot
// too; without Secure Boot the loader's options take the place of the boot
// file's (systemd-stub(7)). Each of these parameters is also one to systemd,
// which would run anything for them.
func (b *boot) refuseForeign() error {
	b.record.Ignored = sidecars("/.extra")
	if b.record.Foreign == ForeignAccept {
		return nil
	}
	if err := refuseCmdline(b.own, b.given); err != nil {
		return err
	}
	said, err := removeSystemdOptions(efivarsDir)
	if said != "" {
		b.record.Ignored = append(b.record.Ignored, said)
	}
	for _, what := range b.record.Ignored {
		say(levelWarning, "not taken: "+what)
	}
	return err
}

// refuseCmdline names what was added to the boot file's command line, or taken
// from it.
func refuseCmdline(own, given string) error {
	if strings.TrimSpace(own) == strings.TrimSpace(given) {
		return nil
	}
	added, missing := CompareCmdlines(own, given)
	said := "their order was changed"
	switch {
	case len(added) > 0 && len(missing) > 0:
		said = fmt.Sprintf("%s added, %s missing", quoteList(added), quoteList(missing))
	case len(added) > 0:
		said = quoteList(added) + " added"
	case len(missing) > 0:
		said = quoteList(missing) + " missing"
	}
	return fmt.Errorf("the kernel was not started with the boot file's parameters: %s; this image takes them from nobody else", said)
}

// CompareCmdlines returns the words that a kernel was given beyond those of its
// boot file, and those that it was not given.
func CompareCmdlines(own, given string) (added, missing []string) {
	have, want := splitCmdline(given), splitCmdline(own)
	return without(have, want), without(want, have)
}

// without returns the words of list that are not in other, each as often as it
// is there more.
func without(list, other []string) []string {
	other = slices.Clone(other)
	var left []string
	for _, word := range list {
		if i := slices.Index(other, word); i >= 0 {
			other = slices.Delete(other, i, i+1)
		} else {
			left = append(left, word)
		}
	}
	return left
}

func quoteList(words []string) string {
	var quoted []string
	for i, word := range words {
		if i == maxNamed {
			quoted = append(quoted, fmt.Sprintf("and %d more", len(words)-i))
			break
		}
		if len(word) > maxWord {
			word = word[:maxWord] + "…"
		}
		quoted = append(quoted, fmt.Sprintf("%q", word))
	}
	return strings.Join(quoted, " ")
}

// sidecars lists what the stub found beside the boot file and in loader/ on the
// ESP: credentials and extensions, which nobody signed. It leaves them in the
// initramfs, where a systemd would look for them; nothing of it goes further.
func sidecars(extra string) []string {
	found := []string{}
	paths, _ := filepath.Glob(filepath.Join(extra, "*", "*")) // the pattern is a good one
	for i, path := range paths {
		if i == maxNamed {
			return append(found, fmt.Sprintf("%d more files from the ESP", len(paths)-i))
		}
		found = append(found, fmt.Sprintf("%q from the ESP", strings.TrimPrefix(path, extra+"/")))
	}
	return found
}

// systemdOptions is the EFI variable in which systemd finds more words for its
// command line, where there is no Secure Boot.
const systemdOptions = "SystemdOptions-8cf2644b-4b0b-428f-9387-6d876050dc67"

// immutable is FS_IMMUTABLE_FL, which efivarfs gives to most variables.
const immutable = 0x10

// removeSystemdOptions removes the EFI variable with systemd's options, and says
// so when there was one. It is not a reason to refuse the boot: a machine with
// it would boot no deployment any more, and its owner could not remove it.
func removeSystemdOptions(efivars string) (said string, err error) {
	path := filepath.Join(efivars, systemdOptions)
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	value, decodeErr := decodeEFIString(content)
	if err != nil || decodeErr != nil {
		value = "?"
	}
	if f, err := os.Open(path); err == nil {
		if flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS); err == nil && flags&immutable != 0 {
			_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^immutable) // removing tells
		}
		f.Close()
	}
	if err := os.Remove(path); err != nil {
		return "", fmt.Errorf("removing the EFI variable %s, which gives parameters to systemd: %w", systemdOptions, err)
	}
	return fmt.Sprintf("EFI variable SystemdOptions, %s, now removed", quoteList([]string{value})), nil
}
