package verity

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNotSealed is returned by Measure for a file that has no fs-verity.
var ErrNotSealed = errors.New("the file is not sealed with fs-verity")

// ErrUnsupported is returned where the kernel or the file system has no fs-verity.
var ErrUnsupported = errors.New("fs-verity is not supported here (kernel, or file system made without the verity feature)")

// Numbers of linux/fsverity.h.
const (
	algorithmSHA256 = 1
	busyTries       = 12
)

// Enable seals f, which must be open for reading only; nobody may have it open
// for writing. A file that is sealed already is left as it is.
//
// A fork elsewhere in this process holds a copy of every open file for a moment,
// also of the writer's that was just closed, and the kernel then says ETXTBSY.
// That passes by itself, so Enable tries again for some two seconds.
func Enable(f *os.File) error {
	arg := unix.FsverityEnableArg{Version: 1, Hash_algorithm: algorithmSHA256, Block_size: blockSize}
	wait := time.Millisecond
	for try := 1; ; try++ {
		err := ioctl(f, unix.FS_IOC_ENABLE_VERITY, unsafe.Pointer(&arg))
		switch {
		case err == nil, errors.Is(err, unix.EEXIST):
			return nil
		case unsupported(err):
			return fmt.Errorf("sealing %q: %w (%w)", f.Name(), ErrUnsupported, err)
		case errors.Is(err, unix.EINTR):
			try--
		case errors.Is(err, unix.ETXTBSY) && try < busyTries:
			// There is no event to wait for: the kernel does not tell when the
			// last writable reference goes away.
			time.Sleep(wait)
			wait *= 2
		default:
			return fmt.Errorf("sealing %q: %w", f.Name(), err)
		}
	}
}

// Measure returns the digest under which the kernel has sealed f. It is cheap:
// the kernel reads the descriptor, not the file.
func Measure(f *os.File) (Digest, error) {
	var arg struct { // struct fsverity_digest, with room for a sha256
		algorithm, size uint16
		digest          Digest
	}
	arg.size = Size
	err := ioctl(f, unix.FS_IOC_MEASURE_VERITY, unsafe.Pointer(&arg))
	switch {
	case errors.Is(err, unix.ENODATA):
		return Digest{}, fmt.Errorf("measuring %q: %w", f.Name(), ErrNotSealed)
	case errors.Is(err, unix.EOVERFLOW):
		return Digest{}, fmt.Errorf("measuring %q: it is sealed with another algorithm than sha256", f.Name())
	case err != nil && unsupported(err):
		return Digest{}, fmt.Errorf("measuring %q: %w (%w)", f.Name(), ErrUnsupported, err)
	case err != nil:
		return Digest{}, fmt.Errorf("measuring %q: %w", f.Name(), err)
	case arg.algorithm != algorithmSHA256 || arg.size != Size:
		return Digest{}, fmt.Errorf("measuring %q: it is sealed with another algorithm than sha256", f.Name())
	}
	return arg.digest, nil
}

func unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY)
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg))
	runtime.KeepAlive(f)
	if errno != 0 {
		return errno
	}
	return nil
}
