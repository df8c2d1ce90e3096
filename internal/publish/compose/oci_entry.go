package compose

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// Names with which a layer takes away (image-spec, layer.md, "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh." // AUFS' own files; only the next is defined
	whiteoutOpaque = ".wh..wh..opq"
)

// Limits on the extended attributes of one file: what the kernel takes
// (xattr(7)), and what composefs can hold for all together.
const (
	maxXattrKey   = 255
	maxXattrTotal = 32767
)

// apply adds one layer, a tar.
func (t *layeredTree) apply(ctx context.Context, r io.Reader) error {
	t.layer++
	archive := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading tar: %w", err)
		}
		if err := t.applyEntry(header, archive); err != nil {
			return fmt.Errorf("entry %.300q: %w", header.Name, err)
		}
	}
}

func (t *layeredTree) applyEntry(h *tar.Header, content io.Reader) error {
	if t.entries++; t.entries > maxTreeEntries {
		return fmt.Errorf("the image has more than %d entries", maxTreeEntries)
	}
	if h.Typeflag == tar.TypeXGlobalHeader { // git's comment, and the like
		return nil
	}
	dir, name := path.Split(strings.TrimRight(h.Name, "/"))
	switch {
	case name == whiteoutOpaque:
		return t.opaque(dir)
	case strings.HasPrefix(name, whiteoutMeta):
		return nil
	case strings.HasPrefix(name, whiteoutPrefix):
		hidden := strings.TrimPrefix(name, whiteoutPrefix)
		if hidden == "" || hidden == "." || hidden == ".." {
			return errors.New("the whiteout names nothing")
		}
		return t.whiteout(dir + hidden)
	case h.Typeflag == tar.TypeLink:
		return t.link(h.Name, h.Linkname)
	}
	if isDevice(h.Typeflag) {
		return checkDevice(h)
	}
	inode, err := newInode(h)
	if err != nil {
		return err
	}
	if inode.IsRegular() {
		if t.bytes += h.Size; h.Size < 0 || t.bytes > maxLayerSize {
			return fmt.Errorf("the files of the image have more than %d bytes", int64(maxLayerSize))
		}
		// archive/tar gives exactly h.Size bytes or an error.
		if err := t.store(inode, content, h.Size); err != nil {
			return err
		}
	}
	return t.put(h.Name, inode)
}

func isDevice(typeflag byte) bool { return typeflag == tar.TypeChar || typeflag == tar.TypeBlock }

// checkDevice allows device nodes in /dev only, and leaves them out: the
// kernel fills /dev on a machine. Anywhere else a device in an image is a back
// door, and 0:0 a whiteout to overlayfs.
func checkDevice(h *tar.Header) error {
	names, err := splitPath(h.Name)
	if err != nil {
		return err
	}
	if len(names) > 1 && names[0] == "dev" {
		return nil
	}
	return fmt.Errorf("it is a device node (%d:%d), which is allowed in /dev only", h.Devmajor, h.Devminor)
}

// newInode takes over what a header says about a file, a directory, a
// symbolic link or a FIFO.
func newInode(h *tar.Header) (*tree.Node, error) {
	n := &tree.Node{Nlink: 1, Mode: uint32(h.Mode) & tree.PermMask}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		n.Mode |= tree.TypeRegular
	case tar.TypeDir:
		n.Mode |= tree.TypeDir
	case tar.TypeSymlink:
		n.Mode = tree.TypeSymlink | 0o777
		n.Target = h.Linkname
		if n.Target == "" || len(n.Target) > maxPathBytes || strings.IndexByte(n.Target, 0) >= 0 {
			return nil, fmt.Errorf("it is a symbolic link to %.60q, which has %d bytes, want 1 to %d and none of them zero",
				n.Target, len(n.Target), maxPathBytes)
		}
		n.Size = uint64(len(n.Target))
	case tar.TypeFifo:
		n.Mode |= tree.TypeFIFO
	default:
		return nil, fmt.Errorf("its type %q is not known", h.Typeflag)
	}
	const noID = 1<<32 - 1
	if h.Uid < 0 || h.Uid >= noID || h.Gid < 0 || h.Gid >= noID {
		return nil, fmt.Errorf("its owner %d:%d cannot be one", h.Uid, h.Gid)
	}
	n.UID, n.GID = uint32(h.Uid), uint32(h.Gid)
	n.Mtime = tree.Time{Sec: h.ModTime.Unix(), Nsec: uint32(h.ModTime.Nanosecond())}
	var err error
	n.Xattrs, err = headerXattrs(h)
	return n, err
}

// headerXattrs takes the extended attributes from the PAX records. SELinux
// labels are those of the machine that made the layer and are left out;
// overlayfs' own attributes would be obeyed, not stored, and are refused.
func headerXattrs(h *tar.Header) ([]tree.Xattr, error) {
	const record = "SCHILY.xattr."
	var list []tree.Xattr
	total := 0
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		name, ok := strings.CutPrefix(key, record)
		if !ok || name == "security.selinux" {
			continue
		}
		if name == "" || len(name) > maxXattrKey || strings.IndexByte(name, 0) >= 0 {
			return nil, fmt.Errorf("its extended attribute %.60q has a bad name", name)
		}
		if strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			return nil, fmt.Errorf("its extended attribute %q is overlayfs' own", name)
		}
		value := h.PAXRecords[key]
		if total += len(name) + len(value); total > maxXattrTotal {
			return nil, fmt.Errorf("its extended attributes have more than %d bytes", maxXattrTotal)
		}
		list = append(list, tree.Xattr{Key: name, Value: []byte(value)})
	}
	return list, nil
}
