package etc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// node is one name in one of the three directories, without its content.
type node struct {
	path   string // where it is on this machine
	typ    uint32 // S_IFMT bits
	size   int64
	rdev   uint64
	target string // symlinks
	meta
	inode  inode
	opaque bool // an upper directory that hides the lower one
}

// meta is what has to agree, besides type and content, for two nodes to be the
// same; but for the time, which says when and not what.
type meta struct {
	perm     uint32
	uid, gid uint32
	xattrs   map[string]string // without overlayfs' own
	mtime    unix.Timespec
}

// inode names a file with several names; zero for one with a single name.
type inode struct {
	dev, ino uint64
}

// Limits of what is read of one inode.
const (
	maxXattrs  = 64 << 10 // bytes of names, and of one value; also the kernel's
	maxEntries = 1 << 20  // names in one directory
)

func (n *node) isDir() bool      { return n != nil && n.typ == unix.S_IFDIR }
func (n *node) isWhiteout() bool { return n != nil && n.typ == unix.S_IFCHR && n.rdev == 0 }

// read returns the node at path without following links, or nil when there is none.
func read(path string) (*node, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil, nil
		}
		return nil, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	n := &node{
		path: path, typ: st.Mode & unix.S_IFMT, size: st.Size, rdev: st.Rdev,
		meta: meta{perm: st.Mode & 0o7777, uid: st.Uid, gid: st.Gid, mtime: st.Mtim},
	}
	if n.typ != unix.S_IFDIR && st.Nlink > 1 {
		n.inode = inode{st.Dev, st.Ino}
	}
	if n.typ == unix.S_IFLNK {
		target, err := os.Readlink(path)
		if err != nil {
			return nil, err
		}
		n.target = target
	}
	if err := n.readXattrs(); err != nil {
		return nil, fmt.Errorf("reading extended attributes of %q: %w", path, err)
	}
	return n, nil
}

func (n *node) readXattrs() error {
	buf := make([]byte, maxXattrs)
	size, err := unix.Llistxattr(n.path, buf)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return err
	}
	names := strings.Split(strings.TrimRight(string(buf[:size]), "\x00"), "\x00")
	for _, name := range names {
		if name == "" {
			continue
		}
		size, err := unix.Lgetxattr(n.path, name, buf)
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		value := string(buf[:size])
		own, ok := strings.CutPrefix(name, "trusted.overlay.")
		if !ok {
			own, ok = strings.CutPrefix(name, "user.overlay.") // a mount with userxattr
		}
		switch {
		case !ok:
			if n.xattrs == nil {
				n.xattrs = make(map[string]string)
			}
			n.xattrs[name] = value
		case own == "opaque":
			n.opaque = value == "y"
		case own == "redirect" || own == "metacopy":
			// The content would be somewhere else than it seems. ashlar-init
			// mounts /etc with both switched off.
			return fmt.Errorf("%q: the overlay was mounted with redirect_dir or metacopy", name)
		}
	}
	return nil
}

// names lists a directory, sorted; nothing for anything else.
func (n *node) names() ([]string, error) {
	if !n.isDir() {
		return nil, nil
	}
	d, err := os.Open(n.path)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(maxEntries + 1)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if len(names) > maxEntries {
		return nil, fmt.Errorf("directory %q holds more than %d names", n.path, maxEntries)
	}
	sort.Strings(names)
	return names, nil
}

// child reads the entry of that name; nil when n is no directory or has none.
func (n *node) child(name string) (*node, error) {
	if !n.isDir() {
		return nil, nil
	}
	return read(filepath.Join(n.path, name))
}

// upperChild is child for an upper directory: below an opaque directory nothing
// of the lower one shows, so directories there are opaque without saying so.
func (n *node) upperChild(name string) (*node, error) {
	c, err := n.child(name)
	if c != nil && n.opaque {
		c.opaque = true
	}
	return c, err
}

// equal reports whether two metadata agree, the time left out.
func (m meta) equal(o meta) bool {
	return m.perm == o.perm && m.uid == o.uid && m.gid == o.gid && maps.Equal(m.xattrs, o.xattrs)
}

// sameContent reports whether two nodes have the same type and content;
// directories compare by type alone.
func sameContent(a, b *node) (bool, error) {
	if a == nil || b == nil || a.typ != b.typ {
		return a == b, nil
	}
	switch a.typ {
	case unix.S_IFREG:
		if a.size != b.size {
			return false, nil
		}
		return sameBytes(a.path, b.path)
	case unix.S_IFLNK:
		return a.target == b.target, nil
	case unix.S_IFCHR, unix.S_IFBLK:
		return a.rdev == b.rdev, nil
	}
	return true, nil
}

// same is sameContent and equal metadata.
func same(a, b *node) (bool, error) {
	ok, err := sameContent(a, b)
	if !ok || err != nil || a == nil {
		return ok, err
	}
	return a.meta.equal(b.meta), nil
}

// sameTree is same, all the way down. Neither tree is an upper one.
func sameTree(a, b *node) (bool, error) {
	ok, err := same(a, b)
	if !ok || err != nil || !a.isDir() {
		return ok, err
	}
	namesA, err := a.names()
	if err != nil {
		return false, err
	}
	namesB, err := b.names()
	if err != nil || len(namesA) != len(namesB) {
		return false, err
	}
	for i, name := range namesA {
		if name != namesB[i] {
			return false, nil
		}
		ca, err := a.child(name)
		if err != nil {
			return false, err
		}
		cb, err := b.child(name)
		if err != nil {
			return false, err
		}
		if ok, err := sameTree(ca, cb); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func sameBytes(a, b string) (bool, error) {
	fa, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer fb.Close()
	bufA, bufB := make([]byte, 32<<10), make([]byte, 32<<10)
	for {
		na, errA := io.ReadFull(fa, bufA)
		nb, errB := io.ReadFull(fb, bufB)
		if !bytes.Equal(bufA[:na], bufB[:nb]) {
			return false, nil
		}
		for _, err := range []error{errA, errB} {
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return false, err
			}
		}
		if errA != nil || errB != nil {
			return errA != nil && errB != nil, nil
		}
	}
}

// typeName is a node's type for people.
func (n *node) typeName() string {
	switch n.typ {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symlink"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "device"
}
