package install

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/program"
)

// features of the root file system, all of them named, so that the image's
// mke2fs.conf has no say: the same as on a disk image (docs/disk.md).
const features = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg," +
	"sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum,verity"

// fileSystem is how a partition is formatted and mounted. Tests have the ESP as another
// one where the kernel that they run on has no FAT.
type fileSystem struct {
	kind   string
	format func(ctx context.Context, dev string) error
}

var fat = fileSystem{"vfat", formatESP}

// mounts is who mounts. Tests of power cuts have directories for file systems, where
// what is written to them can be followed.
type mounts struct {
	mount   func(dev, dir, kind string) error
	unmount func(dir string) error
}

var kernel = mounts{
	func(dev, dir, kind string) error {
		return unix.Mount(dev, dir, kind, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOATIME, "")
	},
	func(dir string) error { return unix.Unmount(dir, 0) },
}

// formatESP makes FAT32 with clusters of 4 KiB, whatever the disk's sectors are: with
// larger ones an ESP of 1 GiB has too few to be FAT32.
func formatESP(ctx context.Context, dev string) error {
	f, err := os.Open(dev)
	if err != nil {
		return err
	}
	sector, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	f.Close()
	if err != nil {
		sector = 512 // a file
	}
	_, err = program.Run(ctx, program.Command{Args: []string{
		"mkfs.vfat", "-F", "32", "-s", strconv.Itoa(max(4096/sector, 1)), "-n", "ASHLAR-ESP", dev,
	}})
	if err != nil {
		return fmt.Errorf("making the file system of the ESP: %w", err)
	}
	return nil
}

// RootFormat returns mke2fs's arguments for the root file system, without the device.
func RootFormat() []string { return ext4Format(gpt.NameRoot) }

// ext4Format returns mke2fs's arguments for a file system. What the disk does not have to
// be told, such as empty inode tables, is left to the first boot.
func ext4Format(label string) []string {
	return []string{
		"-q", "-F", "-b", "4096", "-I", "256", "-i", "16384", "-m", "1", "-J", "size=" + strconv.FormatInt(journal/mib, 10),
		"-O", features, "-L", label, "-E", "root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1",
	}
}

// emptyESP takes away what firmware could find on the ESP that was there before. mkfs.vfat
// writes over it in no order that is known: for a moment the old loader could be
// there and not what it starts, or a new boot sector before old directories. So the
// boot sector goes first, by itself: it is one sector, with it the ESP is as it was and
// without it it is none. Then go the two allocation tables, of four bytes for each cluster
// of 4 KiB, the root directory behind them, and room for the directories that are made
// first. Only when all of that is gone from the disk there is a boot sector again.
func emptyESP(dev string) (err error) {
	f, err := os.OpenFile(dev, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	for _, length := range []int64{4096, min(size/512+6*mib, size)} {
		if _, err := f.WriteAt(make([]byte, length), 0); err != nil {
			return fmt.Errorf("emptying the ESP: %w", err)
		}
		if err := f.Sync(); err != nil {
			return fmt.Errorf("emptying the ESP: %w", err)
		}
	}
	return nil
}

// formatRoot makes the root file system.
func formatRoot(ctx context.Context, dev string) error {
	if err := formatExt4(ctx, dev, gpt.NameRoot); err != nil {
		return fmt.Errorf("making the root file system: %w", err)
	}
	return nil
}

func formatExt4(ctx context.Context, dev, label string) error {
	_, err := program.Run(ctx, program.Command{Args: append(append([]string{"mke2fs"}, ext4Format(label)...), dev)})
	return err
}

// mapperName is what the open encrypted partition is called while installing.
const mapperName = "ashlar-install"

// encrypt makes an encrypted partition (LUKS2, keys by argon2id), and returns a
// recovery key, which opens it too. Secrets go through descriptors: a command line
// can be read by everybody.
func (in *Installer) encrypt(ctx context.Context, dev, passphrase string) (recovery string, err error) {
	_, err = program.Run(ctx, program.Command{
		Args:  append([]string{"cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--pbkdf", "argon2id", "--label", gpt.NameRoot + "-luks", "--key-file", "-", dev}, in.pbkdf...),
		Stdin: strings.NewReader(passphrase),
	})
	if err != nil {
		return "", fmt.Errorf("encrypting the root partition: %w", err)
	}
	if recovery, err = recoveryKey(in.random()); err != nil {
		return "", err
	}
	if err := in.addKey(ctx, dev, passphrase, recovery); err != nil {
		return "", fmt.Errorf("adding the recovery key: %w", err)
	}
	return recovery, nil
}

// addKey gives an encrypted partition one more secret that opens it; by is one that
// does already.
func (in *Installer) addKey(ctx context.Context, dev, by, secret string) error {
	// Two secrets and one standard input: the new key is in memory that has no name
	// but this process's.
	fd, err := unix.MemfdCreate("key", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	key := os.NewFile(uintptr(fd), "the new key")
	defer key.Close()
	if _, err := key.WriteString(secret); err != nil {
		return err
	}
	_, err = program.Run(ctx, program.Command{
		Args: append([]string{"cryptsetup", "luksAddKey", "--batch-mode", "--pbkdf", "argon2id", "--key-file", "-", dev,
			fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)}, in.pbkdf...),
		Stdin: strings.NewReader(by),
	})
	return err
}

// unlock opens the encrypted root partition and returns the device of what is in it.
func unlock(ctx context.Context, dev, passphrase string) (string, error) {
	device, err := openLUKS(ctx, dev, passphrase, mapperName)
	if err != nil {
		return "", fmt.Errorf("unlocking the root partition: %w", err)
	}
	return device, nil
}

func lock() error { return closeLUKS(mapperName) }

// openLUKS opens an encrypted partition under a name.
func openLUKS(ctx context.Context, dev, secret, name string) (string, error) {
	_, err := program.Run(ctx, program.Command{
		Args:  []string{"cryptsetup", "open", "--type", "luks2", "--key-file", "-", dev, name},
		Stdin: strings.NewReader(secret),
	})
	return filepath.Join("/dev/mapper", name), err
}

func closeLUKS(name string) error {
	_, err := program.Run(context.Background(), program.Command{Args: []string{"cryptsetup", "close", name}})
	return err
}

// isEncrypted reports whether a partition begins with a LUKS header.
func isEncrypted(dev string) (bool, error) {
	f, err := os.Open(dev)
	if err != nil {
		return false, err
	}
	defer f.Close()
	magic := make([]byte, 6)
	if _, err := io.ReadFull(f, magic); err != nil {
		return false, err
	}
	return bytes.Equal(magic, []byte("LUKS\xba\xbe")), nil
}

// recoveryAlphabet has the letters that are at the same place on every usual
// keyboard, as systemd's recovery keys and YubiKeys have them ("modhex").
const recoveryAlphabet = "cbdefghijklnrtuv"

// recoveryKey is 256 bits, in eight groups of eight letters.
func recoveryKey(random io.Reader) (string, error) {
	var b [32]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", err
	}
	var key strings.Builder
	for i, c := range b {
		if i > 0 && i%4 == 0 {
			key.WriteByte('-')
		}
		key.WriteByte(recoveryAlphabet[c>>4])
		key.WriteByte(recoveryAlphabet[c&15])
	}
	return key.String(), nil
}

// random is where secrets come from.
func (in *Installer) random() io.Reader {
	if in.Random != nil {
		return in.Random
	}
	return rand.Reader
}
