package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/program"
)

// device is the disk that is installed to: a block device, or a file that is one
// day copied to one, as in tests.
type device struct {
	path   string
	sector int64
	file   bool
	lock   *os.File // held until the end; nil for a file
	loops  []string // that stand for partitions of a file
}

// openDevice takes the disk, and keeps udev away from it and from its partitions until
// close (https://systemd.io/BLOCK_DEVICE_LOCKING). Whenever somebody has written to a
// disk, udev has the kernel read its partition table again, and for a moment there
// are no partitions.
func openDevice(d *Disk) (*device, error) {
	st, err := os.Stat(d.Path)
	if err != nil {
		return nil, err
	}
	dev := &device{path: d.Path, sector: d.Sector, file: st.Mode().IsRegular()}
	if dev.file {
		return dev, nil
	}
	if dev.lock, err = os.Open(d.Path); err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dev.lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", d.Path, err), dev.lock.Close())
	}
	return dev, nil
}

// write opens the disk for itself alone: the kernel refuses that while it, or a
// part of it, is in use. Afterwards the kernel reads the partition table.
func (d *device) write(do func(f *os.File) error) (err error) {
	flags := os.O_RDWR
	if !d.file {
		flags |= os.O_EXCL
	}
	f, err := os.OpenFile(d.path, flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("the disk %s is in use", d.path)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := do(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil || d.file {
		return err
	}
	// Who has begun to look at a partition before the lock has it open for a moment.
	for end := time.Now().Add(partitionTimeout); ; time.Sleep(50 * time.Millisecond) {
		err := unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return fmt.Errorf("having the kernel read the partition table of %s: %w", d.path, err)
		}
	}
}

// wipe takes away what tells firmware and kernel that there are partitions: the
// first and the last MiB, with the table, its backup, and the boot code of other times.
// From here on nothing boots from the disk.
func (d *device) wipe() error {
	return d.write(func(f *os.File) error {
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		zero := make([]byte, mib)
		for _, at := range []int64{size - mib, 0} {
			if _, err := f.WriteAt(zero, at); err != nil {
				return fmt.Errorf("wiping %s: %w", d.path, err)
			}
		}
		return nil
	})
}

// divide writes the partition table. The first MiB of each partition is emptied
// before: no old file system shows through.
func (d *device) divide(parts []Partition, size int64) error {
	table := gpt.Table{Disk: newUUID(), Sector: d.sector, Size: size}
	for _, p := range parts {
		table.Partitions = append(table.Partitions, p.entry)
	}
	return d.write(func(f *os.File) error {
		zero := make([]byte, mib)
		for _, p := range parts {
			if _, err := f.WriteAt(zero, p.Start); err != nil {
				return fmt.Errorf("emptying partition %q: %w", p.Name, err)
			}
		}
		if err := f.Sync(); err != nil {
			return err
		}
		return table.Write(f)
	})
}

// partitionTimeout is how long to wait for the kernel to show a partition.
const partitionTimeout = 20 * time.Second

// partition is the device of a partition.
func (d *device) partition(ctx context.Context, p Partition) (string, error) {
	if d.file {
		return d.loop(ctx, p)
	}
	path := d.path + strconv.Itoa(p.Number)
	if last := d.path[len(d.path)-1]; last >= '0' && last <= '9' {
		path = d.path + "p" + strconv.Itoa(p.Number) // block/partitions/core.c
	}
	end := time.Now().Add(partitionTimeout)
	for {
		size, err := sizeOf(path)
		switch {
		case err == nil && size == p.Size:
			return path, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENXIO):
			return "", err
		case time.Now().After(end):
			return "", fmt.Errorf("the kernel did not show partition %q of %s within %v", p.Name, d.path, partitionTimeout)
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func sizeOf(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Seek(0, io.SeekEnd)
}

func (d *device) loop(ctx context.Context, p Partition) (string, error) {
	out, err := program.Run(ctx, program.Command{Args: []string{
		"losetup", "--show", "--find", "--offset", strconv.FormatInt(p.Start, 10), "--sizelimit", strconv.FormatInt(p.Size, 10), d.path,
	}})
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(string(out))
	d.loops = append(d.loops, name)
	return name, nil
}

// close gives the loop devices back, and the disk to udev. It waits for nobody: what has been written is
// on the disk by then.
func (d *device) close() error {
	var all error
	for _, name := range d.loops {
		_, err := program.Run(context.Background(), program.Command{Args: []string{"losetup", "--detach", name}})
		all = errors.Join(all, err)
	}
	d.loops = nil
	if d.lock != nil {
		all = errors.Join(all, d.lock.Close())
		d.lock = nil
	}
	return all
}
