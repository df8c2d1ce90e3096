package etc

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// entry is one name of the directory to be written: what the plan of a merge is made of.
type entry struct {
	from     *node             // type, and content unless overridden below; nil: a whiteout
	meta     meta              // as it shall be
	content  []byte            // of a merged file, where override is set
	override bool              // content counts, not from's
	children map[string]*entry // directories
}

// whiteout hides what the lower directory has under the name.
func whiteout() *entry { return &entry{} }

// copyOf plans n as it is, without children.
func copyOf(n *node) *entry { return &entry{from: n, meta: n.meta} }

// copyTree plans n with everything below it; n is not an upper directory.
func copyTree(n *node) (*entry, error) {
	e := copyOf(n)
	names, err := n.names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		c, err := n.child(name)
		if err != nil {
			return nil, err
		}
		if c == nil {
			continue
		}
		ce, err := copyTree(c)
		if err != nil {
			return nil, err
		}
		e.add(name, ce)
	}
	return e, nil
}

// add puts a child under e, or nothing when c is nil.
func (e *entry) add(name string, c *entry) {
	if c == nil {
		return
	}
	if e.children == nil {
		e.children = make(map[string]*entry)
	}
	e.children[name] = c
}

// writer writes entries. Names of one inode that are planned as they were
// become names of one inode again.
type writer struct {
	links map[inode]string
}

// write makes e at path, which must not exist.
func (w *writer) write(path string, e *entry) error {
	if e.from == nil {
		// A character device 0:0; the kernel lets anyone make one.
		if err := unix.Mknod(path, unix.S_IFCHR, 0); err != nil {
			return &fs.PathError{Op: "making whiteout", Path: path, Err: err}
		}
		return nil
	}
	shared := e.from.inode != inode{} && !e.override && e.meta.equal(e.from.meta)
	if shared {
		if first, ok := w.links[e.from.inode]; ok {
			return os.Link(first, path)
		}
	}
	if err := w.create(path, e); err != nil {
		return err
	}
	if shared {
		if w.links == nil {
			w.links = make(map[inode]string)
		}
		w.links[e.from.inode] = path
	}
	return nil
}

func (w *writer) create(path string, e *entry) error {
	n := e.from
	switch n.typ {
	case unix.S_IFDIR:
		if err := os.Mkdir(path, 0o700); err != nil {
			return err
		}
		if err := w.writeChildren(path, e); err != nil {
			return err
		}
	case unix.S_IFREG:
		if err := writeRegular(path, e); err != nil {
			return err
		}
	case unix.S_IFLNK:
		if err := os.Symlink(n.target, path); err != nil {
			return err
		}
	default:
		if err := unix.Mknod(path, n.typ|0o600, int(n.rdev)); err != nil {
			return &fs.PathError{Op: "making " + n.typeName(), Path: path, Err: err}
		}
	}
	return setMeta(path, n.typ, e.meta)
}

func (w *writer) writeChildren(path string, e *entry) error {
	for _, name := range slices.Sorted(maps.Keys(e.children)) {
		if err := w.write(filepath.Join(path, name), e.children[name]); err != nil {
			return err
		}
	}
	return nil
}

func writeRegular(path string, e *entry) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if e.override {
		_, err = out.Write(e.content)
	} else {
		var in *os.File
		if in, err = os.OpenFile(e.from.path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0); err != nil {
			return err
		}
		defer in.Close()
		_, err = io.Copy(out, in)
	}
	if err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	return out.Close()
}

// setMeta sets owner, mode, attributes and time, in the order in which one
// does not undo another: chown clears set-id bits and capabilities, and
// everything but utimes may touch the time.
func setMeta(path string, typ uint32, m meta) error {
	now, err := read(path)
	if err != nil {
		return err
	}
	if now == nil {
		return &fs.PathError{Op: "lstat", Path: path, Err: fs.ErrNotExist}
	}
	if now.uid != m.uid || now.gid != m.gid {
		if err := os.Lchown(path, int(m.uid), int(m.gid)); err != nil {
			return err
		}
	}
	if typ != unix.S_IFLNK {
		if err := unix.Chmod(path, m.perm); err != nil {
			return &fs.PathError{Op: "chmod", Path: path, Err: err}
		}
	}
	for name := range now.xattrs {
		if _, ok := m.xattrs[name]; ok {
			continue
		}
		// A security module labels what is new by itself and may insist.
		if err := unix.Lremovexattr(path, name); err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EACCES) {
			return fmt.Errorf("removing attribute %q of %q: %w", name, path, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.xattrs)) {
		if err := unix.Lsetxattr(path, name, []byte(m.xattrs[name]), 0); err != nil {
			return fmt.Errorf("setting attribute %q of %q: %w", name, path, err)
		}
	}
	times := []unix.Timespec{m.mtime, m.mtime}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "setting the time of", Path: path, Err: err}
	}
	return nil
}
