package sysroot

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// EnsureWritable lets this process, and nobody else but what it starts, write below
// dir, which everybody sees read-only. It gives the process a mount namespace of its
// own and starts it again in there, since a Go program cannot move all of its
// threads; so it must be called before anything is done. Where dir is writable
// already, or no mount point, it does nothing.
func EnsureWritable(dir string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	moved, err := enterWritable(dir)
	if err != nil || !moved {
		return err
	}
	// exec takes this thread's namespace along and ends the others.
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

// Writable calls fn on a thread that can write below dir. Nothing else of this
// process can, nor can what it started: fn must not leave its goroutine.
func Writable(dir string, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this goroutine
		_, err := enterWritable(dir)
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	return <-done
}

// enterWritable moves the calling thread to a mount namespace in which dir is
// writable, unless it is already.
func enterWritable(dir string) (moved bool, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false, fmt.Errorf("opening %q: %w", dir, err)
	}
	if st.Flags&unix.ST_RDONLY == 0 {
		return false, nil
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return false, fmt.Errorf("making %q writable: %w", dir, err)
	}
	// Slave, not private: the ESP is mounted when it is first looked at, by
	// systemd and therefore outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return false, fmt.Errorf("making %q writable: %w", dir, err)
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, dir, 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return false, fmt.Errorf("making %q writable: %w", dir, err)
	}
	// A file system that is read-only itself stays so, and would have a process start
	// itself again for ever.
	if err := unix.Statfs(dir, &st); err != nil || st.Flags&unix.ST_RDONLY != 0 {
		return false, fmt.Errorf("making %q writable: its file system is mounted read-only", dir)
	}
	return true, nil
}
