package sysroot

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// uevents is a socket on which the kernel announces devices. Nobody reads the
// messages: they only say that it is worth looking again.
type uevents struct{ fd int }

// listen opens the socket. Whatever appears from then on wakes wait.
func listen() (*uevents, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("listening for devices: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listening for devices: %w", err)
	}
	return &uevents{fd}, nil
}

func (u *uevents) close() { unix.Close(u.fd) }

// wait returns true when a device was announced since the last call, false
// when none was for that long.
func (u *uevents) wait(timeout time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(u.fd), Events: unix.POLLIN}}
	for end := time.Now().Add(timeout); ; {
		left := time.Until(end)
		if left <= 0 {
			return false
		}
		n, err := unix.Poll(fds, int(left.Milliseconds())+1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return false
		}
		u.drain()
		return true
	}
}

// drain takes every message that is there. ENOBUFS says that some were lost,
// which does not matter: the next look finds what they were about.
func (u *uevents) drain() {
	var buf [4096]byte
	for {
		_, _, err := unix.Recvfrom(u.fd, buf[:], 0)
		if err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS) {
			return
		}
	}
}
