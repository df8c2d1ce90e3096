package composefs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// MaxInline is the size up to which content is kept in the image itself.
const MaxInline = 64

// ScanOptions of ScanDir. The zero value sees a directory as mkcomposefs does,
// to which every name is a file of its own.
type ScanOptions struct {
	HardLinks bool              // keep them: the first name in order has the inode
	Progress  progress.Reporter // may be nil
}

// ScanDir makes a tree of a directory: everything in it, with all extended
// attributes that the caller may see, and the digests of all contents of more
// than MaxInline bytes, which are computed on all processors. Source of those is
// the path of the file. What changes meanwhile is an error.
func ScanDir(ctx context.Context, dir string, o ScanOptions) (*tree.Tree, error) {
	if o.Progress == nil {
		o.Progress = progress.None
	}
	o.Progress.Stage("reading "+dir, 0, progress.Bytes)
	group, ctx := errgroup.WithContext(ctx)
	s := &scan{o: o, ctx: ctx, files: make(chan *tree.Node, 256), seen: make(map[fileID]*tree.Node), buf: make([]byte, 64<<10)}
	var root *tree.Node
	group.Go(func() (err error) {
		defer close(s.files)
		// With "/." a symbolic link in place of the root is followed.
		root, err = s.node("", strings.TrimSuffix(dir, "/")+"/.")
		if err == nil && !root.IsDir() {
			return fmt.Errorf("%q is not a directory", dir)
		}
		return err
	})
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error {
			for n := range s.files {
				if err := measure(n, o.Progress); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("cannot read the directory: %w", err)
	}
	return &tree.Tree{Root: root}, nil
}

// fileID tells inodes apart.
type fileID struct{ dev, ino uint64 }

// scan walks one directory tree.
type scan struct {
	o     ScanOptions
	ctx   context.Context // ends the walk
	files chan *tree.Node // whose digests are to be computed
	seen  map[fileID]*tree.Node
	buf   []byte // scratch for extended attributes
}

// node makes a node of what is at path, with everything below it.
func (s *scan) node(name, path string) (*tree.Node, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return nil, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	n := &tree.Node{Name: name, Mode: st.Mode, Nlink: 1, UID: st.Uid, GID: st.Gid,
		Mtime: tree.Time{Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec)}}
	if n.Mode&tree.TypeMask != tree.TypeDir && st.Nlink > 1 && s.o.HardLinks {
		id := fileID{st.Dev, st.Ino}
		if first := s.seen[id]; first != nil {
			first.Nlink++
			return &tree.Node{Name: name, HardLink: first}, nil
		}
		s.seen[id] = n
	}
	var err error
	if n.Xattrs, err = s.xattrs(path); err != nil {
		return nil, err
	}
	switch n.Mode & tree.TypeMask {
	case tree.TypeDir:
		err = s.children(n, path)
	case tree.TypeSymlink:
		n.Target, err = os.Readlink(path)
		n.Size = uint64(len(n.Target))
	case tree.TypeChar, tree.TypeBlock:
		n.Rdev = uint32(st.Rdev)
	case tree.TypeRegular:
		n.Size = uint64(st.Size)
		err = s.content(n, path)
	}
	return n, err
}

func (s *scan) children(n *tree.Node, path string) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(path) // sorted by name
	if err != nil {
		return err
	}
	n.Children = make([]*tree.Node, 0, len(entries))
	for _, e := range entries {
		child, err := s.node(e.Name(), filepath.Join(path, e.Name()))
		if err != nil {
			return err
		}
		n.Children = append(n.Children, child)
	}
	return nil
}

// content reads what is small and hands on what is not.
func (s *scan) content(n *tree.Node, path string) (err error) {
	switch {
	case n.Size == 0:
		return nil
	case n.Size > MaxInline:
		n.Source = path
		select {
		case s.files <- n:
			return nil
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
	if n.Inline, err = os.ReadFile(path); err == nil && uint64(len(n.Inline)) != n.Size {
		err = changed(path)
	}
	return err
}

func changed(path string) error { return fmt.Errorf("%q changed while it was read", path) }

// measure computes the digest of n's content.
func measure(n *tree.Node, p progress.Reporter) error {
	f, err := os.Open(n.Source)
	if err != nil {
		return err
	}
	defer f.Close()
	digest, size, err := verity.SumReader(progress.Reader(io.LimitReader(f, int64(n.Size)+1), p))
	if err != nil {
		return fmt.Errorf("reading %q: %w", n.Source, err)
	}
	if uint64(size) != n.Size {
		return changed(n.Source)
	}
	n.Digest = digest
	n.Payload = ObjectPath(digest)
	return nil
}

// ObjectPath is where an object lies below the directory of objects: its digest,
// with a slash after the second digit.
func ObjectPath(d verity.Digest) string {
	s := d.String()
	return s[:2] + "/" + s[2:]
}

// xattrs reads the extended attributes of path, sorted by key.
func (s *scan) xattrs(path string) ([]tree.Xattr, error) {
	names, err := s.grow(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if errors.Is(err, unix.ENOTSUP) || err == nil && len(names) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "llistxattr", Path: path, Err: err}
	}
	keys := strings.Split(strings.TrimSuffix(string(names), "\x00"), "\x00")
	list := make([]tree.Xattr, 0, len(keys))
	for _, key := range keys {
		value, err := s.grow(func(b []byte) (int, error) { return unix.Lgetxattr(path, key, b) })
		if err != nil {
			return nil, &os.PathError{Op: "lgetxattr of " + key, Path: path, Err: err}
		}
		list = append(list, tree.Xattr{Key: key, Value: append([]byte(nil), value...)})
	}
	slices.SortFunc(list, func(a, b tree.Xattr) int { return cmp.Compare(a.Key, b.Key) })
	return list, nil
}

// grow calls a system call that wants a buffer, with a larger one as long as the
// kernel asks for it. The result is good until the next call.
func (s *scan) grow(call func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := call(s.buf)
		if err == nil {
			return s.buf[:n], nil
		}
		if !errors.Is(err, unix.ERANGE) || len(s.buf) >= 1<<20 {
			return nil, err
		}
		s.buf = make([]byte, 2*len(s.buf))
	}
}
