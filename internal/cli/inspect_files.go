package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// fileAnswer is one name in an image.
type fileAnswer struct {
	Path     string         `json:"path"`
	Type     string         `json:"type"` // "file", "dir", "symlink", "fifo", "socket", "char", "block"
	Mode     string         `json:"mode"` // octal, without the type
	UID      uint32         `json:"uid"`
	GID      uint32         `json:"gid"`
	Size     uint64         `json:"size"`
	Digest   *verity.Digest `json:"digest,omitempty"`    // of the object; none for what is inline
	Target   string         `json:"target,omitempty"`    // of a symlink
	HardLink string         `json:"hard_link,omitempty"` // the first name of the inode
}

// listFiles describes every name in t, in depth-first order.
func listFiles(t *tree.Tree) []fileAnswer {
	var list []fileAnswer
	first := make(map[*tree.Node]string) // of inodes with several names
	_ = t.Walk(func(path string, n *tree.Node) error {
		if n.HardLink == nil && n.Nlink > 1 && !n.IsDir() {
			first[n] = path
		}
		return nil
	})
	_ = t.Walk(func(path string, n *tree.Node) error {
		inode := n.Inode()
		f := fileAnswer{
			Path: path, Type: typeName(inode), Mode: fmt.Sprintf("%04o", inode.Mode&tree.PermMask),
			UID: inode.UID, GID: inode.GID, Size: inode.Size, Target: inode.Target,
		}
		if inode.IsDir() {
			f.Size = 0 // what its entries take, which says nothing
		}
		if !inode.Digest.IsZero() {
			f.Digest = &inode.Digest
		}
		if n.HardLink != nil {
			f.HardLink = first[inode]
		}
		list = append(list, f)
		return nil
	})
	return list
}

func typeName(n *tree.Node) string {
	switch n.Mode & tree.TypeMask {
	case tree.TypeRegular:
		return "file"
	case tree.TypeDir:
		return "dir"
	case tree.TypeSymlink:
		return "symlink"
	case tree.TypeFIFO:
		return "fifo"
	case tree.TypeSocket:
		return "socket"
	case tree.TypeChar:
		return "char"
	}
	return "block"
}

// line is for people: one line whatever the name holds.
func (f fileAnswer) line() string {
	var b strings.Builder
	short := "-"
	if f.Digest != nil {
		short = f.Digest.Short()
	}
	fmt.Fprintf(&b, "%-7s %s %5d:%-5d %10d %-12s %s", f.Type, f.Mode, f.UID, f.GID, f.Size, short, printable(f.Path))
	if f.Target != "" {
		b.WriteString(" -> " + printable(f.Target))
	}
	if f.HardLink != "" {
		b.WriteString(" = " + printable(f.HardLink))
	}
	return b.String()
}

// printable quotes a name that a terminal could take for something else: an
// image from elsewhere chooses its names.
func printable(name string) string {
	if quoted := strconv.Quote(name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}
