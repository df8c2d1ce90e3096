package torture

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
	"github.com/ashlar-os/ashlar/internal/vmtest/fat32"
)

// espView is what an ESP holds.
type espView struct {
	err   error
	file  string   // that the loader starts next
	image string   // which that boots
	boots []string // versions whose boot file is there, whole, under its name

	// Of an installation:
	nothing  bool // firmware finds no loader
	fallback bool // it finds one by itself
}

// fixedFiles are those that nobody touches in a machine's life.
var fixedFiles = []string{"EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi", "loader/loader.conf"}

func (j *Judge) readFixed(files *fat32.FS) (err error) {
	for _, name := range fixedFiles {
		file := files.Lookup(name)
		if file == nil {
			return fmt.Errorf("the ESP has no %q", name)
		}
		if j.fixed[name], err = file.ReadAll(); err != nil {
			return err
		}
	}
	return nil
}

// lookESP reads the present ESP, or knows what it holds.
func (j *Judge) lookESP(ctx context.Context) (*espView, error) {
	key := j.replay.Key(j.esp.Section)
	if v := j.espSeen[key]; v != nil {
		return v, nil
	}
	v := new(espView)
	if v.err = j.readESP(v); v.err == nil && !v.nothing {
		code, _, err := run(ctx, "fsck.vfat", "-n", j.esp.Name())
		if err != nil {
			return nil, err
		}
		// FAT has no journal: clusters without a name, and a table that differs
		// from its copy, are what a cut leaves, and harm nobody.
		if code != 0 {
			j.Report.Dirty++
		}
	}
	j.Report.ESPs++
	j.espSeen[key] = v
	return v, nil
}

func (j *Judge) readESP(v *espView) error {
	files, err := fat32.Open(j.esp)
	fixed := fixedFiles
	switch {
	case j.Medium != "" && err != nil:
		v.nothing = true // it was not made yet
		return nil
	case err != nil:
		return err
	case j.Medium != "":
		if err := j.loaderView(files, v); err != nil || v.nothing {
			return err
		}
		fixed = fixedFiles[2:]
	}
	for _, name := range fixed {
		file := files.Lookup(name)
		if file == nil {
			return fmt.Errorf("%q is gone", name)
		}
		if b, err := file.ReadAll(); err != nil || !bytes.Equal(b, j.fixed[name]) {
			return fmt.Errorf("%q has changed: %w", name, err)
		}
	}
	disk := espDisk{files, make(map[string][]byte)}
	file, image, err := updatetest.Choice(disk)
	if err != nil {
		return err
	}
	if file == "" {
		return fmt.Errorf("nothing boots: %q", disk.List(bootFiles))
	}
	v.file, v.image = file, image.String()
	version := j.version(v.image)
	sum := sha256.Sum256(disk.read[bootFiles+"/"+file])
	if got := hex.EncodeToString(sum[:]); got != j.UKIs[version] {
		return fmt.Errorf("%q boots next, and is not the boot file of %q", file, version)
	}
	// Each boot file that is whole has a name that says what it is.
	seen := make(map[string]bool)
	for name, b := range disk.read {
		sum := sha256.Sum256(b)
		for version, want := range j.UKIs {
			if hex.EncodeToString(sum[:]) == want && strings.HasPrefix(path.Base(name), "ashlar_"+version+"_") {
				seen[version] = true
			}
		}
	}
	v.boots = slices.Sorted(maps.Keys(seen))
	return nil
}

// bootFiles is where the loader looks, as updatetest names it.
const bootFiles = "efi/EFI/Linux"

// espDisk is the ESP as updatetest reads it: mounted on efi.
type espDisk struct {
	*fat32.FS
	read map[string][]byte
}

func (d espDisk) ReadFile(name string) ([]byte, error) {
	file := d.Lookup(strings.TrimPrefix(name, "efi/"))
	if file == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	b, err := file.ReadAll()
	if err != nil {
		return nil, nil // the loader passes over what it cannot read
	}
	d.read[name] = b
	return b, nil
}

func (d espDisk) List(dir string) (names []string) {
	for _, file := range d.Files() {
		if path.Dir(file.Path) == strings.TrimPrefix(dir, "efi/") && !file.Dir {
			names = append(names, path.Base(file.Path))
		}
	}
	return names
}
