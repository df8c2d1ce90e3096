package sysroot

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anatol/luks.go"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/history"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/program"
)

const varUUID = "dddddddd-1111-2222-3333-444444444444"

func varDisk(name, uuid string) disk {
	return disk{name, []gpt.Partition{{Number: 1, Type: gpt.TypeVar, ID: gpt.MustParse(uuid), Name: gpt.NameVar}}}
}

// The partition of /var is the one that the root partition names, on whichever disk.
func TestChooseVar(t *testing.T) {
	v := &store.VarDisk{Schema: store.VarSchema, PartUUID: varUUID, Disk: "virtio-two"}
	another := varDisk("sda", rootUUID)
	retyped := varDisk("sda", varUUID)
	retyped.partitions[0].Type = gpt.TypeRoot
	for _, c := range []struct {
		name   string
		disks  []disk
		device string // or
		err    string
	}{
		{"second disk", []disk{ashlarDisk("vda", espUUID), varDisk("vdb", varUUID)}, "/dev/vdb1", ""},
		{"another bus", []disk{another, varDisk("nvme0n1", varUUID)}, "/dev/nvme0n1p1", ""},
		{"another machine's", []disk{ashlarDisk("vda", espUUID), another}, "", errNotYet.Error()},
		{"another type", []disk{retyped}, "", errNotYet.Error()},
		{"none", nil, "", errNotYet.Error()},
		{"a copy is plugged in", []disk{varDisk("sda", varUUID), varDisk("sdb", varUUID)}, "", `the disks "sda" and "sdb" both have the partition ` + varUUID},
	} {
		got, err := chooseVar(c.disks, v)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error is %v, want one with %q", c.name, err, c.err)
			}
			continue
		}
		if err != nil || got.Device != c.device || got.ID != "virtio-two" || got.PartUUID != varUUID {
			t.Errorf("%s: found %+v (%v), want %q", c.name, got, err, c.device)
		}
	}
	if err := missingVar(v, []disk{ashlarDisk("vda", espUUID)}); !strings.Contains(err.Error(), `the disk "virtio-two", which has this machine's /var (partition `+varUUID+`), did not appear within 30s: plug it in; disks with a GPT: "vda"`) {
		t.Errorf("what is said is %v", err)
	}
}

// varBoot is a boot of a machine that was installed with its /var on another disk.
func varBoot(t *testing.T, encrypted bool, key []byte) *boot {
	t.Helper()
	s, err := store.Create(filepath.Join(t.TempDir(), "ashlar"))
	must(t, err)
	must(t, s.WriteVarDisk(&store.VarDisk{Schema: store.VarSchema, PartUUID: varUUID, Disk: "virtio-two", Encrypted: encrypted}, key))
	return &boot{store: s, loader: newLoader(testList(t), (&recorder{}).insert)}
}

// openFile mounts a file that plays the partition, through a loop device.
func (b *boot) openFile(t *testing.T, path string) error {
	t.Helper()
	out, err := program.Run(context.Background(), program.Command{Args: []string{"losetup", "--show", "--find", path}})
	must(t, err)
	loop := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		_, err := program.Run(context.Background(), program.Command{Args: []string{"losetup", "--detach", loop}})
		must(t, err)
	})
	v, err := b.store.VarDisk()
	must(t, err)
	return b.openVar(v, &Var{Device: loop})
}

// What is mounted as /var is in its place in the store, and then at its place in the
// running system, and nowhere twice.
func TestOpenVar(t *testing.T) {
	b := varBoot(t, false, nil)
	path := filepath.Join(t.TempDir(), "partition")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.Truncate(path, 16<<20))
	if err := b.openFile(t, path); err == nil || !strings.Contains(err.Error(), "neither ext4 nor btrfs") {
		t.Errorf("nothing: %v", err)
	}
	_, err := program.Run(context.Background(), program.Command{Args: []string{"mke2fs", "-q", "-F", "-t", "ext4", path}})
	must(t, err)
	must(t, b.openFile(t, path))
	if _, err := os.Stat(filepath.Join(b.store.VarPath(), "lost+found")); err != nil {
		t.Error(err)
	}
	b.record.Var = &Var{}
	target := t.TempDir()
	must(t, b.showVar(target))
	defer func() { must(t, unmount(target)) }()
	if _, err := os.Stat(filepath.Join(target, "lost+found")); err != nil {
		t.Error(err)
	}
	if list, err := os.ReadDir(b.store.VarPath()); err != nil || len(list) > 0 {
		t.Errorf("in the store there is still %v, %v", list, err)
	}
}

// A partition that ought to be encrypted and is not, or that another key opens, was put
// there by somebody else.
func TestVarOfSomebodyElse(t *testing.T) {
	key := bytes.Repeat([]byte{1, '\n', 0, 0xfe}, store.VarKeySize/4)
	plain := filepath.Join(t.TempDir(), "plain")
	must(t, os.WriteFile(plain, nil, 0o600))
	must(t, os.Truncate(plain, 16<<20))
	_, err := program.Run(context.Background(), program.Command{Args: []string{"mke2fs", "-q", "-F", "-t", "ext4", plain}})
	must(t, err)
	secret := encrypt(t, "somebody else's", cheap...)
	for _, c := range []struct {
		name, path, want string
		encrypted        bool
	}{
		{"not encrypted", plain, "is not encrypted, and was when it was installed", true},
		{"encrypted since", secret, "is encrypted, and was not when it was installed", false},
		{"another key", secret, "the key that the root partition keeps does not open it", true},
	} {
		b := varBoot(t, c.encrypted, key)
		if err := b.openFile(t, c.path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want one with %q", c.name, err, c.want)
		}
	}
}

// The key slot that the installer makes for the key is one that is taken here, and
// the key, which is no text, opens it.
func TestVarKeySlot(t *testing.T) {
	key := bytes.Repeat([]byte{1, '\n', 0, 0xfe}, store.VarKeySize/4)
	path := encrypt(t, string(key), "--type=luks2", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000")
	h, err := readPartition(t, path)
	must(t, err)
	d, err := luks.Open(path)
	must(t, err)
	defer d.Close()
	slots, _ := h.affordable(1)
	if len(slots) != 1 {
		t.Fatalf("key slots that take no memory: %v", slots)
	}
	if _, err := d.UnsealVolume(slots[0], key); err != nil {
		t.Error(err)
	}
	if _, err := d.UnsealVolume(slots[0], key[:len(key)-1]); !errors.Is(err, luks.ErrPassphraseDoesNotMatch) {
		t.Errorf("a part of the key: %v", err)
	}
}

// A disk that is missing for days does not fill the history, which has an end.
func TestMissingVarIsToldOnce(t *testing.T) {
	b := varBoot(t, false, nil)
	b.params.image = verity.SumBytes([]byte("image"))
	must(t, b.store.WriteDeployment(&store.Deployment{
		Schema: store.Schema, Image: b.params.image, Name: "server", Version: "1.0.0", Release: "sha256:" + b.params.image.String(),
	}))
	lost := &varError{errors.New("the disk \"virtio-two\" did not appear")}
	for range 3 {
		b.noteFailure(lost)
	}
	other := errors.New("the image is damaged")
	b.noteFailure(other)
	b.noteFailure(other) // another fault is told each time
	b.noteFailure(lost)
	events, err := history.Read(b.store.Dir)
	must(t, err)
	var whys []string
	for _, e := range events {
		whys = append(whys, e.Why)
	}
	if got := strings.Join(whys, "; "); got != lost.Error()+"; "+other.Error()+"; "+other.Error()+"; "+lost.Error() {
		t.Errorf("the history tells: %s", got)
	}
	if f := history.ReadFailure(b.store.DeploymentPath(b.params.image)); f == nil || f.Reason != lost.Error() || f.Stage != history.Initramfs {
		t.Errorf("the failure is %+v", f)
	}
}
