package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/program"
)

// A /var that has a disk of its own: one partition, of the type that the Discoverable
// Partitions Specification has for it. The root partition says which one it is, and
// keeps its key where it is encrypted, so that ashlar-init asks for one passphrase. That
// passphrase and the recovery key open it too, for who has the disk without the
// machine.

// minVar is the smallest disk that is taken for /var, in bytes.
const minVar = gib

// PlanVar is what becomes of the disk that /var has of its own.
type PlanVar struct {
	Disk      Disk      `json:"disk"`
	Mode      string    `json:"mode"` // Blank or Erase
	Partition Partition `json:"partition"`
}

// CanHoldVar reports whether /var could have the disk of its own, beside a system on the
// other one.
func (d *Disk) CanHoldVar(system *Disk) bool {
	return d.Refused == "" && d.Path != system.Path && d.Size >= minVar
}

// check names what cannot be right, whatever the disks are.
func (v *VarAnswer) check(system *DiskAnswer) error {
	switch {
	case v.Disk == "" && v.Erase != "":
		return fmt.Errorf("field %q is missing, and there is %q: a disk for /var is never chosen by itself", "var.disk", "var.erase")
	case v.Disk != "" && system.KeepVar:
		return fmt.Errorf("there are both %q and %q: a /var that is kept stays on the disk that it is on", "var.disk", "disk.keep_var")
	}
	return nil
}

// placeVar finds the disk that is to have /var, by the rules of the system's own.
func (p *Plan) placeVar(disks []Disk) error {
	a := &p.answers.Var
	if a.Disk == "" {
		return nil
	}
	d, err := choose(&DiskAnswer{ID: a.Disk}, disks)
	if err != nil {
		return fmt.Errorf("the disk for /var: %w", err)
	}
	p.Var = &PlanVar{Disk: *d}
	switch {
	case d.Path == p.Disk.Path:
		return fmt.Errorf("the disk %s gets the system, so /var has no disk of its own there; leave field %q out, or name another", d.ID, "var.disk")
	case d.Content == "":
		p.Var.Mode = Blank
	case d.IsNamed(a.Erase):
		p.Var.Mode = Erase
	case a.Erase != "":
		return fmt.Errorf("what may be erased is %q (field %q), and the disk that was chosen for /var is %q", a.Erase, "var.erase", d.ID)
	default:
		return &NotEmptyError{*d, "var"}
	}
	p.Var.Partition, err = divideVar(d, p.answers.Encryption.Passphrase != "")
	return err
}

// divideVar plans the one partition of a disk for /var.
func divideVar(d *Disk, encrypted bool) (Partition, error) {
	if d.Size < minVar {
		return Partition{}, fmt.Errorf("the disk %s has %d MB, and /var gets no disk of less than %d MB", d.Path, d.Size/1e6, (minVar+999_999)/1e6)
	}
	_, end := gpt.Usable(d.Size, d.Sector)
	p := Partition{
		Number: 1, Name: gpt.NameVar, Start: alignment, Size: (end - alignment) / alignment * alignment, FileSystem: "ext4", Encrypted: encrypted,
	}
	p.entry = gpt.Partition{Type: gpt.TypeVar, ID: newUUID(), Name: p.Name, Start: p.Start, Size: p.Size}
	return p, nil
}

// lines says in words what becomes of it.
func (v *PlanVar) lines() []string {
	if v == nil {
		return nil
	}
	lines := []string{"/var on     " + v.Disk.Describe(), "            " + v.Disk.ID}
	if v.Mode == Erase {
		lines = append(lines, "            EVERYTHING ON IT IS LOST")
	}
	return append(lines, v.Partition.line())
}

// varMapper is what the open encrypted /var is called while installing.
const varMapper = "ashlar-install-var"

// varJob is what a run has to do with the disk of /var. The zero value: there is none.
type varJob struct {
	dev    *device
	part   string // device of the file system
	locked bool   // there is a mapping to close
	record *store.VarDisk
	key    []byte
	kept   bool // the machine has it from before
}

// claimVar makes sure that the disk of /var is there and free, before anything is
// changed on the other one.
func (j *job) claimVar() (err error) {
	if j.plan.Var == nil {
		return nil
	}
	if j.vars.dev, err = openDevice(&j.plan.Var.Disk); err != nil {
		return err
	}
	return j.vars.dev.write(func(*os.File) error { return nil })
}

// makeVar divides and formats the disk of /var.
func (j *job) makeVar(ctx context.Context) (err error) {
	if j.plan.Var == nil {
		return nil
	}
	v, p := &j.vars, j.plan.Var.Partition
	if err := v.dev.wipe(); err != nil {
		return err
	}
	if err := v.dev.divide([]Partition{p}, j.plan.Var.Disk.Size); err != nil {
		return err
	}
	if v.part, err = v.dev.partition(ctx, p); err != nil {
		return err
	}
	v.record = &store.VarDisk{Schema: store.VarSchema, PartUUID: p.entry.ID.String(), Disk: j.plan.Var.Disk.ID, Encrypted: p.Encrypted}
	if p.Encrypted {
		if v.key, err = j.encryptVar(ctx, v.part, j.plan.answers.Encryption.Passphrase, j.recovery); err != nil {
			return err
		}
		if err := v.unlock(ctx); err != nil {
			return err
		}
	}
	if err := formatExt4(ctx, v.part, gpt.NameVar); err != nil {
		return fmt.Errorf("making the file system of /var: %w", err)
	}
	return nil
}

// encryptVar makes an encrypted partition that three secrets open: a key of random
// bytes, which it returns, and those that people have. That key needs no
// stretching: nobody guesses 512 bits. So it costs a boot nothing.
func (in *Installer) encryptVar(ctx context.Context, dev, passphrase, recovery string) ([]byte, error) {
	key := make([]byte, store.VarKeySize)
	if _, err := io.ReadFull(in.random(), key); err != nil {
		return nil, err
	}
	_, err := program.Run(ctx, program.Command{
		Args: []string{"cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000",
			"--label", gpt.NameVar + "-luks", "--key-file", "-", dev},
		Stdin: bytes.NewReader(key),
	})
	if err != nil {
		return nil, fmt.Errorf("encrypting /var: %w", err)
	}
	for _, secret := range []string{passphrase, recovery} {
		if err := in.addKey(ctx, dev, string(key), secret); err != nil {
			return nil, fmt.Errorf("adding a key to /var: %w", err)
		}
	}
	return key, nil
}

// keepVar finds the disk of a /var that is kept, while the machine boots still as it
// did.
func (j *job) keepVar(ctx context.Context, s *store.Store) error {
	record, err := s.VarDisk()
	if err != nil || record == nil {
		return err
	}
	disk, part, err := findVar(j.plan.disks, record)
	if err != nil {
		return err
	}
	j.report.note(j.now(), "keeping /var on the disk "+disk.ID)
	v := &j.vars
	v.record, v.kept = record, true
	if v.dev, err = openDevice(disk); err != nil {
		return err
	}
	if v.part, err = v.dev.partition(ctx, part); err != nil {
		return err
	}
	encrypted, err := isEncrypted(v.part)
	switch {
	case err != nil:
		return err
	case encrypted != record.Encrypted:
		return fmt.Errorf("/var on the disk %s is not as it was made: it was to be encrypted: %t, and it is: %t", disk.ID, record.Encrypted, encrypted)
	case !encrypted:
		return nil
	}
	if v.key, err = s.VarKey(); err != nil {
		return err
	}
	return v.unlock(ctx)
}

// findVar finds the partition that a machine has as its /var.
func findVar(disks []Disk, record *store.VarDisk) (*Disk, Partition, error) {
	var found *Disk
	var part Partition
	for i := range disks {
		d := &disks[i]
		p, ok := varPartition(d, record.PartUUID)
		switch {
		case ok && found != nil:
			return nil, part, fmt.Errorf("the disks %s and %s both have the partition of this machine's /var; unplug one, they are copies", found.Path, d.Path)
		case ok:
			found, part = d, p
		}
	}
	if found == nil {
		return nil, part, fmt.Errorf("this machine's /var is on the disk %s (partition %s), which is not here: plug it in, or start over without %q; there are: %s",
			record.Disk, record.PartUUID, "disk.keep_var", list(disks))
	}
	return found, part, nil
}

// varPartition looks for the partition on one disk. What cannot be read is not it.
func varPartition(d *Disk, uuid string) (Partition, bool) {
	f, err := os.Open(d.Path)
	if err != nil {
		return Partition{}, false
	}
	defer f.Close()
	table, err := gpt.Read(f, d.Sector)
	if err != nil {
		return Partition{}, false
	}
	for _, p := range table.Partitions {
		if p.Type == gpt.TypeVar && p.ID.String() == uuid {
			return Partition{Number: p.Number, Name: p.Name, Start: p.Start, Size: p.Size, FileSystem: "ext4", Kept: true, entry: p}, true
		}
	}
	return Partition{}, false
}

// mountVar mounts it in its place in the store, so that who writes to /var does.
func (j *job) mountVar(s *store.Store) error {
	if j.vars.part == "" {
		return nil
	}
	return j.mountAt(j.vars.part, s.VarPath(), "ext4")
}

// unlock opens the encrypted partition with its key.
func (v *varJob) unlock(ctx context.Context) error {
	device, err := openLUKS(ctx, v.part, string(v.key), varMapper)
	if err != nil {
		return fmt.Errorf("unlocking /var: %w", err)
	}
	v.part, v.locked = device, true
	return nil
}

// write has the root partition say where /var is. One that is kept is known there already.
func (v *varJob) write(s *store.Store) error {
	if v.record == nil || v.kept {
		return nil
	}
	return s.WriteVarDisk(v.record, v.key)
}

// verify compares what the root partition says with what was made.
func (v *varJob) verify(s *store.Store) error {
	got, err := s.VarDisk()
	if err != nil || v.record == nil && got == nil {
		return err
	}
	if v.record == nil || got == nil || *got != *v.record {
		return errors.New("what the root partition says of /var is not what was written: the disk is bad")
	}
	if !got.Encrypted {
		return nil
	}
	key, err := s.VarKey()
	if err == nil && !bytes.Equal(key, v.key) {
		err = errors.New("the key of /var on the root partition is not what was written: the disk is bad")
	}
	return err
}

// letGo gives back all that was taken. It may be called twice.
func (v *varJob) letGo() error {
	var err error
	if v.locked {
		v.locked = false
		err = closeLUKS(varMapper)
	}
	if v.dev != nil {
		err = errors.Join(err, v.dev.close())
	}
	return err
}
