package sysroot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// setting is one parameter of a file system; a flag has no value.
type setting struct{ key, value string }

// mountFS makes a file system of the given type and puts it at target. attrs
// are MOUNT_ATTR_ flags of the mount.
func mountFS(kind, target string, attrs int, settings ...setting) error {
	if err := newMount(kind, target, attrs, settings); err != nil {
		return fmt.Errorf("mounting %s at %q: %w", kind, target, err)
	}
	return nil
}

func newMount(kind, target string, attrs int, settings []setting) error {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	for _, s := range settings {
		if s.value == "" {
			err = unix.FsconfigSetFlag(fs, s.key)
		} else {
			err = unix.FsconfigSetString(fs, s.key, s.value)
		}
		if err != nil {
			return explain(fs, fmt.Errorf("parameter %s=%s: %w", s.key, s.value, err))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return explain(fs, err)
	}
	m, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return explain(fs, err)
	}
	defer unix.Close(m)
	return unix.MoveMount(m, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// explain adds what the kernel has to say about a failure (fsopen(2), "message
// retrieval interface").
func explain(fs int, err error) error {
	var buf [1024]byte
	var said []string
	for len(said) < 8 {
		n, e := unix.Read(fs, buf[:])
		if e != nil || n <= 0 {
			break
		}
		said = append(said, strings.TrimSpace(string(buf[:n])))
	}
	if len(said) == 0 {
		return err
	}
	return fmt.Errorf("%w (the kernel says: %s)", err, strings.Join(said, "; "))
}

// requireSeals makes the kernel check each object against the digest that the
// image names.
var requireSeals = setting{"verity", "require"}

// mountImage puts an image's tree at target, read-only: the EROFS file's
// metadata over the objects, which are checked as seals says.
//
// The EROFS file is attached to a loop device and not mounted as a file. A file-backed
// EROFS counts as stacked on the file system that holds the file; the root overlay
// would then be two deep, and /etc, an overlay whose lower layer is in the root
// overlay, three: the kernel allows two (FILESYSTEM_MAX_STACK_DEPTH).
func mountImage(image *os.File, objects, target string, seals setting) error {
	loop, err := attachLoop(image)
	if err != nil {
		return err
	}
	defer loop.Close()
	erofs := target + ".erofs"
	if err := os.MkdirAll(erofs, 0o700); err != nil {
		return err
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := mountFS("erofs", erofs, unix.MOUNT_ATTR_RDONLY,
		setting{"source", loop.Name()}, setting{"ro", ""}); err != nil {
		return err
	}
	err = mountFS("overlay", target, unix.MOUNT_ATTR_RDONLY,
		setting{"source", "ashlar"},
		setting{"ro", ""},
		setting{"metacopy", "on"},
		setting{"redirect_dir", "on"},
		seals,
		setting{"lowerdir+", erofs},
		setting{"datadir+", objects})
	// The overlay holds the layers by itself; the loop device frees itself
	// when the last user is gone.
	return errors.Join(err, unmount(erofs), os.Remove(erofs))
}

// attachLoop gives a file a read-only loop device.
func attachLoop(file *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("attaching %q to a loop device: %w", file.Name(), err)
	}
	defer control.Close()
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("looking for a free loop device: %w", err)
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDONLY, 0)
		if err != nil {
			return nil, fmt.Errorf("attaching %q to a loop device: %w", file.Name(), err)
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd())}
		config.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR
		copy(config.Info.File_name[:unix.LO_NAME_SIZE-1], filepath.Base(file.Name()))
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) { // EBUSY: somebody else took it meanwhile
			return nil, fmt.Errorf("attaching %q to %q: %w", file.Name(), loop.Name(), err)
		}
	}
}

// mountEtc puts /etc at target: the image's own below, this deployment's changes
// above. What the merge reads is the upper directory alone, so every changed
// file has to be in it whole and under its own name: no metacopy, no redirects.
func mountEtc(lower, upper, work, target string) error {
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making the directories of /etc: %w", err)
		}
	}
	return mountFS("overlay", target, unix.MOUNT_ATTR_NOATIME,
		setting{"source", "ashlar-etc"},
		setting{"metacopy", "off"},
		setting{"redirect_dir", "off"},
		setting{"lowerdir+", lower},
		setting{"upperdir", upper},
		setting{"workdir", work})
}

// bind shows dir at target too.
func bind(dir, target string) error {
	if err := unix.Mount(dir, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("showing %q at %q: %w", dir, target, err)
	}
	return nil
}

// move takes a mount to another place.
func move(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("moving the mount at %q to %q: %w", from, to, err)
	}
	return nil
}

func unmount(target string) error {
	if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmounting %q: %w", target, err)
	}
	return nil
}
