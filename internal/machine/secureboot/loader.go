package secureboot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/efivar"
)

// AutoDir is where systemd-boot finds keys that it enrols by itself, on the
// ESP (systemd-boot(7)).
const AutoDir = "loader/keys/auto"

const loaderConf = "loader/loader.conf"

// maxConf limits loader.conf, in bytes.
const maxConf = 64 << 10

// LeaveToLoader puts keys on the ESP for systemd-boot to enrol at the next
// start, when the firmware is in setup mode. how is loader.conf's word for
// secure-boot-enroll: "if-safe" (in virtual machines, otherwise from the menu)
// or "force".
func LeaveToLoader(esp string, e *efivar.Enrolment, how string) error {
	if err := leave(esp, e, how); err != nil {
		return fmt.Errorf("leaving the keys to the loader: %w", err)
	}
	return nil
}

func leave(esp string, e *efivar.Enrolment, how string) error {
	conf, err := os.ReadFile(filepath.Join(esp, loaderConf))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(conf) > maxConf {
		return fmt.Errorf("%q has %d bytes, more than any does", loaderConf, len(conf))
	}
	if err := os.MkdirAll(filepath.Join(esp, AutoDir), 0o755); err != nil {
		return err
	}
	// The loader enrols what it finds, so PK, without which it enrols nothing
	// for good, comes last.
	for _, f := range []struct {
		name string
		data []byte
	}{{"db.auth", e.RawDB}, {"KEK.auth", e.RawKEK}, {"PK.auth", e.RawPK}} {
		if err := replace(filepath.Join(esp, AutoDir, f.name), f.data); err != nil {
			return err
		}
	}
	return replace(filepath.Join(esp, loaderConf), setEnrol(conf, how))
}

// setEnrol is loader.conf with one line secure-boot-enroll.
func setEnrol(conf []byte, how string) []byte {
	lines := slices.DeleteFunc(strings.SplitAfter(string(conf), "\n"), func(line string) bool {
		words := strings.Fields(line)
		return len(words) == 0 || words[0] == "secure-boot-enroll"
	})
	text := strings.Join(lines, "")
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return []byte(text + "secure-boot-enroll " + how + "\n")
}

// replace writes a file of the ESP by its side and renames it, when it is on
// the disk. FAT keeps no modes, so none are set.
func replace(path string, data []byte) error {
	tmp := path + ".ashlar-partial"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
