package compose

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"sort"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// bufferMax is the size up to which a file is handed to a worker whole;
// larger ones are spooled by the reader itself.
const bufferMax = 1 << 20

// maxInodes is how many files a tree may have.
const maxInodes = 4 << 20

// readTar reads a tar stream into a tree and its contents into the spool,
// hashing and writing on all processors. A later entry of one name replaces
// an earlier one, as tar does.
func readTar(ctx context.Context, r io.Reader, s *spool, p progress.Reporter) (*tree.Tree, error) {
	t := &tree.Tree{Root: &tree.Node{Mode: tree.TypeDir | 0o755}}
	workers, ctx := errgroup.WithContext(ctx)
	workers.SetLimit(2 * runtime.GOMAXPROCS(0))
	err := func() error {
		tr := tar.NewReader(r)
		for count := 0; ; count++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("reading the tar stream: %w", err)
			}
			if count > maxInodes {
				return fmt.Errorf("reading the tar stream: more than %d files", maxInodes)
			}
			n, err := addEntry(t, h)
			if err != nil {
				return fmt.Errorf("reading the tar stream: %q: %w", h.Name, err)
			}
			p.Add(1)
			if n == nil || !n.IsRegular() || h.Size == 0 {
				continue
			}
			if h.Size > bufferMax {
				if err := s.fillReader(n, tr); err != nil {
					return fmt.Errorf("%q: %w", h.Name, err)
				}
				continue
			}
			b := make([]byte, h.Size)
			if _, err := io.ReadFull(tr, b); err != nil {
				return fmt.Errorf("reading the tar stream: %q: %w", h.Name, err)
			}
			workers.Go(func() error { return s.fill(n, b) })
		}
	}()
	// The workers' error comes first: it is why ctx ended.
	if werr := workers.Wait(); werr != nil {
		return nil, werr
	}
	return t, err
}

// addEntry puts one tar entry into t; nil for entries that are no file.
func addEntry(t *tree.Tree, h *tar.Header) (*tree.Node, error) {
	name, err := cleanName(h.Name)
	if err != nil {
		return nil, err
	}
	n := &tree.Node{
		Name: path.Base(name), Mode: uint32(h.Mode) & tree.PermMask, Nlink: 1,
		UID: uint32(h.Uid), GID: uint32(h.Gid), Xattrs: tarXattrs(h),
	}
	switch h.Typeflag {
	case tar.TypeReg:
		n.Mode |= tree.TypeRegular
	case tar.TypeDir:
		n.Mode |= tree.TypeDir
	case tar.TypeSymlink:
		n.Mode |= tree.TypeSymlink
		n.Mode |= 0o777
		n.Target, n.Size = h.Linkname, uint64(len(h.Linkname))
	case tar.TypeFifo:
		n.Mode |= tree.TypeFIFO
	case tar.TypeChar:
		n.Mode |= tree.TypeChar
		n.Rdev = device(h)
	case tar.TypeBlock:
		n.Mode |= tree.TypeBlock
		n.Rdev = device(h)
	case tar.TypeLink:
		return nil, addLink(t, name, h.Linkname)
	case tar.TypeXGlobalHeader:
		return nil, nil
	default:
		return nil, fmt.Errorf("unknown type of entry %q", h.Typeflag)
	}
	if name == "/" {
		if !n.IsDir() {
			return nil, errors.New("the root is not a directory")
		}
		n.Name, n.Children = "", t.Root.Children
		*t.Root = *n
		return nil, nil
	}
	dir, err := ensureDir(t, path.Dir(name))
	if err != nil {
		return nil, err
	}
	if old := dir.Child(n.Name); old != nil && old.IsDir() && n.IsDir() {
		n.Children = old.Children
	}
	return dir.Add(n), nil
}

func addLink(t *tree.Tree, name, target string) error {
	target, err := cleanName(target)
	if err != nil {
		return err
	}
	first := t.Lookup(target)
	if first == nil || first.IsDir() {
		return fmt.Errorf("hard link to %q, which is not there", target)
	}
	dir, err := ensureDir(t, path.Dir(name))
	if err != nil {
		return err
	}
	first = first.Inode()
	first.Nlink++
	dir.Add(&tree.Node{Name: path.Base(name), HardLink: first})
	return nil
}

// ensureDir gives the directory at p, made with mode 0755 where it is missing.
func ensureDir(t *tree.Tree, p string) (*tree.Node, error) {
	n := t.Root
	for _, name := range strings.Split(strings.Trim(p, "/"), "/") {
		if name == "" {
			continue
		}
		c := n.Child(name)
		if c == nil {
			c = n.Add(&tree.Node{Name: name, Mode: tree.TypeDir | 0o755, Nlink: 1})
		}
		if !c.IsDir() {
			return nil, fmt.Errorf("%q is not a directory", name)
		}
		n = c
	}
	return n, nil
}

// cleanName makes "./usr/bin" into "/usr/bin" and refuses what leads out.
func cleanName(name string) (string, error) {
	if len(name) > 4096 || strings.ContainsRune(name, 0) {
		return "", errors.New("not a file name")
	}
	for _, c := range strings.Split(name, "/") {
		if c == ".." {
			return "", errors.New("the name leads out of the tree")
		}
		if len(c) > 255 {
			return "", errors.New("a part of the name is longer than 255 bytes")
		}
	}
	return path.Clean("/" + name), nil
}

// device packs major and minor as the kernel's new_encode_dev does.
func device(h *tar.Header) uint32 {
	major, minor := uint32(h.Devmajor), uint32(h.Devminor)
	return minor&0xff | major<<8 | minor&^0xff<<12
}

func tarXattrs(h *tar.Header) []tree.Xattr {
	const prefix = "SCHILY.xattr."
	var list []tree.Xattr
	for k, v := range h.PAXRecords {
		if key, ok := strings.CutPrefix(k, prefix); ok {
			list = append(list, tree.Xattr{Key: key, Value: []byte(v)})
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Key < list[j].Key })
	return list
}
