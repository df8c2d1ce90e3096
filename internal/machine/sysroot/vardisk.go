package sysroot

import (
	"errors"
	"fmt"
	"time"

	"github.com/anatol/luks.go"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/machine/store"
)

// varName is the mapped device's name, as cryptsetup would see it.
const varName = gpt.NameVar

// Var is the disk that /var has of its own.
type Var struct {
	ID         string      `json:"id"`          // stable id of the disk, as it was when it was installed
	Disk       string      `json:"disk"`        // such as "vdb"
	Device     string      `json:"device"`      // that is mounted, such as "/dev/vdb1", or "/dev/dm-1" in an encrypted one
	PartUUID   string      `json:"partuuid"`    // lower case
	FileSystem string      `json:"file_system"` // "ext4" or "btrfs"
	Encryption *Encryption `json:"encryption"`  // null: not encrypted
}

// varError is a boot that ends because of the disk of /var. Every deployment needs the
// same one, so it is not taken for a fault of this one (docs/boot.md).
type varError struct{ error }

func (e *varError) Unwrap() error { return e.error }

// mountVar mounts the /var that has a disk of its own in its place in the store, so
// that a reset finds it there. The root partition says which one it is, and nothing
// else: what is on the other disk is believed as little as any /var is.
func (b *boot) mountVar() error {
	v, err := b.store.VarDisk()
	if err != nil || v == nil {
		return err
	}
	d, err := b.findVar(v)
	if err != nil {
		return err
	}
	if err := b.openVar(v, d); err != nil {
		return fmt.Errorf("the disk %q, which has this machine's /var: %w", v.Disk, err)
	}
	b.record.Var = d
	b.finish("var")
	return nil
}

// showVar puts /var at target. One with a disk of its own is moved there: it is
// mounted once, as systemd expects.
func (b *boot) showVar(target string) error {
	if b.record.Var != nil {
		return move(b.store.VarPath(), target)
	}
	return bind(b.store.VarPath(), target)
}

// findVar loads drivers as devices appear until the partition is there.
func (b *boot) findVar(v *store.VarDisk) (*Var, error) {
	for end := time.Now().Add(diskTimeout); ; {
		disks := readDisks("/sys", "/dev")
		d, err := chooseVar(disks, v)
		if !errors.Is(err, errNotYet) {
			return d, err
		}
		if !b.moreDevices(time.Until(end)) {
			return nil, missingVar(v, disks)
		}
	}
}

// chooseVar finds the partition by its UUID, on any disk. errNotYet: it is on none.
func chooseVar(disks []disk, v *store.VarDisk) (*Var, error) {
	var found *Var
	for _, d := range disks {
		for _, p := range d.partitions {
			if p.Type != gpt.TypeVar || p.ID.String() != v.PartUUID {
				continue
			}
			if found != nil {
				return nil, fmt.Errorf("the disks %q and %q both have the partition %s with this machine's /var; unplug one, they are copies", found.Disk, d.name, v.PartUUID)
			}
			found = &Var{ID: v.Disk, Disk: d.name, Device: "/dev/" + partitionName(d.name, p.Number), PartUUID: v.PartUUID}
		}
	}
	if found == nil {
		return nil, errNotYet
	}
	return found, nil
}

func missingVar(v *store.VarDisk, disks []disk) error {
	return fmt.Errorf("the disk %q, which has this machine's /var (partition %s), did not appear within %v: plug it in; disks with a GPT: %s",
		v.Disk, v.PartUUID, diskTimeout, names(disks))
}

// openVar mounts the partition, through its key where it is encrypted. One that ought to
// be and is not was put there by somebody who wants to read, or to be believed.
func (b *boot) openVar(v *store.VarDisk, d *Var) error {
	kind, err := probe(d.Device)
	if err != nil {
		return err
	}
	switch encrypted := kind == luksKind; {
	case encrypted && !v.Encrypted:
		return fmt.Errorf("its partition %q is encrypted, and was not when it was installed", d.Device)
	case !encrypted && v.Encrypted:
		return fmt.Errorf("its partition %q is not encrypted, and was when it was installed: it is not this machine's any more", d.Device)
	case encrypted:
		if err := b.unlockVar(d); err != nil {
			return err
		}
		if kind, err = probe(d.Device); err != nil {
			return err
		}
	}
	if kind == luksKind {
		return fmt.Errorf("its partition %q is encrypted twice", d.Device)
	}
	if err := b.loader.load(kind); err != nil {
		return err
	}
	d.FileSystem = kind
	return mountRoot(d.Device, kind, b.store.VarPath())
}

// unlockVar opens an encrypted partition with the key that the root partition keeps, so
// that nobody is asked a second time.
func (b *boot) unlockVar(d *Var) error {
	key, err := b.store.VarKey()
	if err != nil {
		return err
	}
	defer clear(key)
	header, volume, err := b.openLUKS(d.Device)
	if err != nil {
		return err
	}
	defer volume.Close()
	err = openVolume(volume, header, key, varName)
	if errors.Is(err, luks.ErrPassphraseDoesNotMatch) {
		return errors.New("the key that the root partition keeps does not open it: it is not this machine's any more")
	}
	if err != nil {
		return err
	}
	d.Encryption = &Encryption{Device: d.Device, UUID: volume.UUID()}
	d.Device, err = mapped(varName)
	return err
}
