package sysroot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// systemd is the first process of the image, below its root.
const systemd = "/usr/lib/systemd/systemd"

// handOver makes root the root directory, frees what the initramfs holds, and
// becomes systemd, with more arguments. It returns only when that fails.
func handOver(root string, arguments []string) error {
	if st, err := os.Stat(filepath.Join(root, systemd)); err != nil || !st.Mode().IsRegular() {
		return fmt.Errorf("the image has no %s to start", systemd)
	}
	for _, dir := range []string{"/dev", "/proc", "/sys", "/run"} {
		if err := move(dir, filepath.Join(root, dir)); err != nil {
			return err
		}
	}
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("entering %q: %w", root, err)
	}
	freeInitramfs("/")
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("making %q the root: %w", root, err)
	}
	if err := errors.Join(unix.Chroot("."), unix.Chdir("/")); err != nil {
		return fmt.Errorf("making %q the root: %w", root, err)
	}
	return fmt.Errorf("starting %s: %w", systemd, unix.Exec(systemd, append([]string{systemd}, arguments...), os.Environ()))
}

// freeInitramfs removes the files of the first root, which live in memory, and
// nothing that is mounted in it. What cannot be removed stays: it costs memory
// and nothing else.
func freeInitramfs(dir string) {
	var root unix.Stat_t
	if unix.Lstat(dir, &root) != nil {
		return
	}
	removeWithin(dir, root.Dev)
}

func removeWithin(dir string, dev uint64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil || st.Dev != dev {
			continue // another file system: a mount
		}
		if e.IsDir() {
			removeWithin(path, dev)
			_ = unix.Rmdir(path)
			continue
		}
		_ = unix.Unlink(path)
	}
}
