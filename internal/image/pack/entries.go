package pack

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// entry is one member of the tar.
type entry struct {
	name string     // relative, without a slash at either end; empty for the root
	node *tree.Node // the inode
	link string     // set for a further name of an inode: its first name
}

// entries lists the members of the tar for t: inodes in the image's order, then
// the further names of inodes that have several, then the names that /etc gets
// in a container.
func entries(t *tree.Tree) ([]entry, error) {
	first := make(map[*tree.Node]string) // first names of inodes that have several
	_ = t.Walk(func(_ string, n *tree.Node) error {
		if n.HardLink != nil {
			first[n.HardLink] = ""
		}
		return nil
	})
	var list []entry
	err := t.WalkInodes(func(path string, n *tree.Node) error {
		if err := checkName(path, n); err != nil {
			return err
		}
		if n.Mode&tree.TypeMask == tree.TypeSocket {
			return nil // a tar has none, and nobody listens on this one
		}
		name := strings.TrimPrefix(path, "/")
		if _, several := first[n]; several {
			first[n] = name
		}
		list = append(list, entry{name: name, node: n})
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = t.Walk(func(path string, n *tree.Node) error {
		if n.HardLink == nil || n.HardLink.Mode&tree.TypeMask == tree.TypeSocket {
			return nil
		}
		if err := checkName(path, n); err != nil {
			return err
		}
		if first[n.HardLink] == "" || n.HardLink.Mode&tree.TypeMask == tree.TypeDir {
			return fmt.Errorf("cannot pack %q: it is a hard link to no file of the tree", path)
		}
		list = append(list, entry{name: strings.TrimPrefix(path, "/"), node: n.HardLink, link: first[n.HardLink]})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return append(list, etcEntries(t)...), nil
}

// etcEntries lists what a container needs to find its configuration. A machine
// mounts /etc over /usr/etc; a container engine unpacks the layer and no more,
// so there /etc repeats the directories and symbolic links of /usr/etc and has
// its files as hard links, which cost a header each.
func etcEntries(t *tree.Tree) []entry {
	etc, source := t.Lookup("/etc"), t.Lookup("/usr/etc")
	if etc == nil || !etc.IsDir() || len(etc.Children) != 0 || source == nil || !source.IsDir() {
		return nil
	}
	var list []entry
	_ = (&tree.Tree{Root: source}).Walk(func(path string, n *tree.Node) error {
		if path == "/" {
			return nil // /etc itself is in the tree
		}
		e := entry{name: "etc" + path, node: n.Inode()}
		switch e.node.Mode & tree.TypeMask {
		case tree.TypeSocket:
			return nil
		case tree.TypeRegular:
			e.link = "usr/etc" + path
		}
		list = append(list, e)
		return nil
	})
	return list
}

// checkName refuses names that a layer cannot hold: those that are no single
// component of a path, and those that the OCI layer format reads as whiteouts.
func checkName(path string, n *tree.Node) error {
	if path == "/" {
		return nil
	}
	switch {
	case n.Name == "" || n.Name == "." || n.Name == ".." || strings.ContainsAny(n.Name, "/\x00"):
		return fmt.Errorf("cannot pack %q: %q is no name of a file", path, n.Name)
	case strings.HasPrefix(n.Name, ".wh."):
		return fmt.Errorf("cannot pack %q: in a layer a name that begins with %q means that a file is deleted", path, ".wh.")
	}
	return nil
}

// size returns the number of content bytes that follow the entry's header.
func (e *entry) size() int64 {
	if e.link != "" || !e.node.IsRegular() {
		return 0
	}
	return int64(e.node.Size)
}

// appendHeader appends the tar header of e to b: one block where the ustar format
// can say everything, a PAX header before it where not (attributes, long names,
// large ids, parts of a second).
func appendHeader(b *bytes.Buffer, e *entry) error {
	n := e.node
	h := tar.Header{
		Name:    e.name,
		Mode:    int64(n.Mode & tree.PermMask),
		Uid:     int(n.UID),
		Gid:     int(n.GID),
		ModTime: time.Unix(n.Mtime.Sec, int64(n.Mtime.Nsec)),
	}
	if n.Mtime.Nsec != 0 {
		h.Format = tar.FormatPAX // otherwise archive/tar rounds to a second
	}
	if e.link != "" {
		h.Typeflag, h.Linkname = tar.TypeLink, e.link
	} else if err := describe(&h, e); err != nil {
		return err
	}
	if err := tar.NewWriter(b).WriteHeader(&h); err != nil {
		return fmt.Errorf("cannot pack %q: %w", "/"+e.name, err)
	}
	return nil
}

// describe fills in what only an inode's first name says.
func describe(h *tar.Header, e *entry) error {
	n := e.node
	switch n.Mode & tree.TypeMask {
	case tree.TypeDir:
		h.Typeflag = tar.TypeDir
		if h.Name = e.name + "/"; e.name == "" {
			h.Name = "./"
		}
	case tree.TypeRegular:
		if n.Size > math.MaxInt64/2 {
			return fmt.Errorf("cannot pack %q: a size of %d bytes is beyond any file system", "/"+e.name, n.Size)
		}
		h.Typeflag, h.Size = tar.TypeReg, int64(n.Size)
	case tree.TypeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, n.Target
	case tree.TypeChar, tree.TypeBlock:
		h.Typeflag = tar.TypeChar
		if n.Mode&tree.TypeMask == tree.TypeBlock {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor = int64(unix.Major(uint64(n.Rdev)))
		h.Devminor = int64(unix.Minor(uint64(n.Rdev)))
	case tree.TypeFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return fmt.Errorf("cannot pack %q: mode %o is of no known type", "/"+e.name, n.Mode)
	}
	for _, x := range n.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string, len(n.Xattrs))
		}
		h.PAXRecords["SCHILY.xattr."+x.Key] = string(x.Value)
	}
	return nil
}
