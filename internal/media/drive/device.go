package drive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Block is what reads and writes of a [Device] are multiples of, and begin at.
const Block = 4096

// Device is what a medium is written to and read from: a drive, or a file that
// is one day copied to a drive. Offsets, lengths and the places of buffers in
// memory are multiples of [Block]; [Buffer] makes such buffers. Only the last
// bytes of a drive may be fewer.
type Device interface {
	// ReadAt reads what is on the medium, and not what a cache remembers.
	io.ReaderAt
	io.WriterAt
	Size() int64
	// Discard says that a range holds nothing any more. What is read there
	// afterwards is up to the device; ErrUnsupported: it took no notice.
	Discard(off, n int64) error
	// Zero makes a range read as zeros, by writing none where the drive knows how.
	Zero(off, n int64) error
	// Flush returns when everything that was written is on the medium.
	Flush() error
	// Forget empties the caches above the medium.
	Forget() error
	Close() error
}

// Buffer makes a buffer that a device can read into and write from by itself.
func Buffer(n int) []byte {
	b := make([]byte, n+Block)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (Block - 1)
	return b[skip : skip+n : skip+n]
}

type device struct {
	f    *os.File
	size int64
	file bool // and no block device
}

// Open opens a drive to write it. The kernel refuses that (O_EXCL) while it or a
// part of it is mounted, swapped to, or part of something else, and lets nobody
// mount it until it is closed. Nothing is cached (O_DIRECT).
func (h Host) Open(d Drive) (Device, error) {
	f, err := os.OpenFile(h.path(d.Path), os.O_RDWR|unix.O_EXCL|unix.O_DIRECT, 0)
	switch {
	case errors.Is(err, unix.EBUSY):
		return nil, refuse(fmt.Sprintf("%s is in use by another program or mount", d.Path), "end what uses it; lsof "+d.Path+" may name it")
	case errors.Is(err, unix.EROFS):
		return nil, refuse(fmt.Sprintf("%s cannot be written: it is write-protected", d.Path), "cards and some sticks have a switch for that")
	case errors.Is(err, fs.ErrPermission):
		return nil, refuse(fmt.Sprintf("%s may be written by root alone", d.Path), "run the same command with sudo")
	case err != nil:
		return nil, fmt.Errorf("opening the drive: %w", err)
	}
	return newDevice(f)
}

// CreateFile makes a file of size bytes that takes the place of a drive. What is
// there under that name, from a write that was cut, is gone on with.
func CreateFile(path string, size int64) (Device, error) {
	f, err := openDirect(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(size); err != nil {
		f.Close()
		return nil, fmt.Errorf("making room for %q: %w", path, err)
	}
	return newDevice(f)
}

// OpenToRead opens a drive or a file to read it, past the caches.
func OpenToRead(path string) (Device, error) {
	f, err := openDirect(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrPermission) {
		return nil, refuse(fmt.Sprintf("%s may be read by root alone", path), "run the same command with sudo")
	}
	if err != nil {
		return nil, err
	}
	return newDevice(f)
}

// openDirect goes without O_DIRECT where a file system has none: Forget does what can be done there.
func openDirect(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|unix.O_DIRECT, 0o644)
	if errors.Is(err, unix.EINVAL) {
		f, err = os.OpenFile(path, flags, 0o644)
	}
	return f, err
}

func newDevice(f *os.File) (Device, error) {
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	d := &device{f: f, size: st.Size(), file: st.Mode().IsRegular()}
	switch mode := st.Mode(); {
	case d.file:
		return d, nil
	case mode&os.ModeDevice == 0 || mode&os.ModeCharDevice != 0:
		f.Close()
		return nil, fmt.Errorf("%q is neither a drive nor a file", f.Name())
	}
	if d.size, err = f.Seek(0, io.SeekEnd); err != nil {
		f.Close()
		return nil, fmt.Errorf("asking %q for its size: %w", f.Name(), err)
	}
	return d, nil
}

func (d *device) Size() int64                              { return d.size }
func (d *device) ReadAt(b []byte, off int64) (int, error)  { return d.f.ReadAt(b, off) }
func (d *device) WriteAt(b []byte, off int64) (int, error) { return d.f.WriteAt(b, off) }

// Flush: fsync of a drive also empties the drive's own cache.
func (d *device) Flush() error { return d.f.Sync() }

func (d *device) Discard(off, n int64) error {
	if d.file {
		return d.Zero(off, n)
	}
	err := d.onRange(unix.BLKDISCARD, off, n)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) {
		return errors.ErrUnsupported
	}
	return err
}

// Zero gives the range back where that leaves zeros: a file, and drives that promise
// it. For others the kernel writes zeros, by the drive's own command if it has one.
func (d *device) Zero(off, n int64) error {
	err := d.control(func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
	switch {
	case !errors.Is(err, unix.EOPNOTSUPP):
		return err
	case !d.file:
		return d.onRange(unix.BLKZEROOUT, off, n)
	}
	zeros := Buffer(int(min(n, 1<<20)))
	for end := off + n; off < end; off += int64(len(zeros)) {
		if _, err := d.f.WriteAt(zeros[:min(int64(len(zeros)), end-off)], off); err != nil {
			return err
		}
	}
	return nil
}

// onRange is one of the kernel's commands for a range of a drive.
func (d *device) onRange(command uintptr, off, n int64) error {
	area := [2]uint64{uint64(off), uint64(n)}
	return d.control(func(fd int) error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), command, uintptr(unsafe.Pointer(&area))); errno != 0 {
			return errno
		}
		return nil
	})
}

// Forget matters where O_DIRECT could not be had, and for what was read before
// the drive was opened: a table of partitions, what a desktop looked at.
func (d *device) Forget() error {
	if d.file {
		return d.control(func(fd int) error { return unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED) })
	}
	err := d.control(func(fd int) error { return unix.IoctlSetInt(fd, unix.BLKFLSBUF, 0) })
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOTTY) { // not root's, who reads past the cache anyway
		return nil
	}
	return err
}

// Close lets the kernel look at the new table of partitions.
func (d *device) Close() error {
	if !d.file {
		_ = d.control(func(fd int) error { return unix.IoctlSetInt(fd, unix.BLKRRPART, 0) }) // drives without partitions refuse
	}
	return d.f.Close()
}

func (d *device) control(do func(fd int) error) error {
	c, err := d.f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := c.Control(func(fd uintptr) { inner = do(int(fd)) }); err != nil {
		return err
	}
	if inner != nil {
		return &fs.PathError{Op: "controlling", Path: d.f.Name(), Err: inner}
	}
	return nil
}

// PowerOff ends a drive's power, as "safely remove" of a desktop does: SCSI
// drives stop, and a USB device leaves its bus.
func (h Host) PowerOff(d Drive) error {
	dir := h.path("sys/block", d.Name)
	place, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("powering off %s: %w", d.Path, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "device/delete"), []byte("1"), 0); err != nil {
		return refuse(fmt.Sprintf("%s cannot be powered off by its system: %v", d.Path, err), "everything is written: take it out")
	}
	if d.Transport != "usb" {
		return nil
	}
	for up := filepath.Dir(place); len(up) > 1; up = filepath.Dir(up) {
		if fact(up, "idVendor") == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(up, "remove"), []byte("1"), 0); err != nil {
			return fmt.Errorf("powering off %s: %w", d.Path, err)
		}
		return nil
	}
	return nil
}
