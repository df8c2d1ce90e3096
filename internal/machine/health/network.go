package health

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxRoutes is how much of the kernel's table of routes is read, bytes.
const maxRoutes = 16 << 20

// checkNetwork waits for a default route, until ctx is done. More would be a
// guess about what the image is for; a check of its own can ask for that.
func (c *Checker) checkNetwork(ctx context.Context) (reason string, lines []string) {
	changes, err := watchRoutes()
	if err != nil {
		return err.Error(), nil
	}
	defer changes.Close()
	stop := context.AfterFunc(ctx, func() { changes.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		ok, err := hasDefaultRoute(c.Root)
		if err != nil {
			return err.Error(), nil
		}
		if ok {
			return "", nil
		}
		var message [64 << 10]byte
		if _, err := changes.Read(message[:]); ctx.Err() != nil {
			return fmt.Sprintf("there is no default route after %s", c.timeout().Round(time.Second)), c.manager().journal(context.WithoutCancel(ctx), "")
		} else if err != nil && !errors.Is(err, unix.ENOBUFS) { // that many changes are a change
			return fmt.Sprintf("waiting for a default route: %v", err), nil
		}
	}
}

// watchRoutes opens a socket from which a message can be read whenever a route
// changes (rtnetlink(7)).
func watchRoutes() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("watching the routes: %w", err)
	}
	f := os.NewFile(uintptr(fd), "netlink")
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE})
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("watching the routes: %w", err)
	}
	return f, nil
}

// hasDefaultRoute reads the kernel's tables of routes.
func hasDefaultRoute(root string) (bool, error) {
	for _, table := range []struct {
		file  string
		parse func([]string) bool
	}{{"route", isDefault4}, {"ipv6_route", isDefault6}} {
		f, err := os.Open(filepath.Join(root, "proc/net", table.file))
		if errors.Is(err, os.ErrNotExist) {
			continue // a kernel without that protocol
		}
		if err != nil {
			return false, fmt.Errorf("reading the routes: %w", err)
		}
		text, err := io.ReadAll(io.LimitReader(f, maxRoutes))
		f.Close()
		if err != nil {
			return false, fmt.Errorf("reading the routes: %w", err)
		}
		lines := bufio.NewScanner(bytes.NewReader(text))
		for lines.Scan() {
			if table.parse(strings.Fields(lines.Text())) {
				return true, nil
			}
		}
	}
	return false, nil
}

// isDefault4 takes Iface Destination Gateway Flags RefCnt Use Metric Mask ….
func isDefault4(f []string) bool {
	return len(f) >= 8 && f[1] == "00000000" && f[7] == "00000000" && usable(f[3])
}

// isDefault6 takes destination, length, source, length, next hop, metric,
// references, use, flags, interface. The kernel itself keeps one on "lo" that
// rejects everything.
func isDefault6(f []string) bool {
	return len(f) >= 10 && strings.Trim(f[0], "0") == "" && f[1] == "00" && f[9] != "lo" && usable(f[8])
}

// usable looks at a route's flags: up, and no rejection.
func usable(flags string) bool {
	n, err := strconv.ParseUint(flags, 16, 32)
	return err == nil && n&unix.RTF_UP != 0 && n&unix.RTF_REJECT == 0
}
