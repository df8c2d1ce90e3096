// Package tree is a root file system as data: names, metadata and where contents are found.
//
// A Tree is what composing makes, what the composefs writer turns into an image,
// and what its reader gives back. It never touches a disk.
package tree

import "github.com/ashlar-os/ashlar/internal/image/verity"

// File types, the S_IFMT bits of Node.Mode (see inode(7)).
const (
	TypeMask    = 0o170000
	TypeSocket  = 0o140000
	TypeSymlink = 0o120000
	TypeRegular = 0o100000
	TypeBlock   = 0o060000
	TypeDir     = 0o040000
	TypeChar    = 0o020000
	TypeFIFO    = 0o010000
	PermMask    = 0o7777
)

// Xattr is one extended attribute, its key with the namespace prefix.
type Xattr struct {
	Key   string
	Value []byte
}

// Time is a modification time: seconds since 1970 and nanoseconds below one second.
type Time struct {
	Sec  int64
	Nsec uint32
}

// Node is one inode, or (HardLink set) one more name of an inode.
type Node struct {
	Name     string // one path component; empty for the root
	Mode     uint32 // st_mode: type and permission bits
	Nlink    uint32 // of everything but directories; directories are counted when written
	UID, GID uint32
	Rdev     uint32 // devices only
	Mtime    Time
	Size     uint64        // bytes, regular files; a symlink's is len(Target)
	Target   string        // symlinks only
	Inline   []byte        // content kept in the image itself (files of at most 64 bytes)
	Payload  string        // where the object is below objects/, such as "ab/cdef…"
	Digest   verity.Digest // of the content; zero when the content is inline or empty
	Xattrs   []Xattr       // sorted by key, bytewise
	Children []*Node       // directories only; sorted by name, bytewise
	HardLink *Node         // the first name of this inode; every other field but Name is then unused
	Source   string        // where a builder can read the content; no part of the image
}

// Tree is a root directory.
type Tree struct {
	Root *Node
}

// IsDir reports whether n is a directory.
func (n *Node) IsDir() bool { return n.HardLink == nil && n.Mode&TypeMask == TypeDir }

// IsRegular reports whether n is a regular file and the first name of its inode.
func (n *Node) IsRegular() bool { return n.HardLink == nil && n.Mode&TypeMask == TypeRegular }

// IsSymlink reports whether n is a symbolic link.
func (n *Node) IsSymlink() bool { return n.HardLink == nil && n.Mode&TypeMask == TypeSymlink }

// Inode returns the node that holds the metadata: n, or what it is a hard link to.
func (n *Node) Inode() *Node {
	if n.HardLink != nil {
		return n.HardLink
	}
	return n
}
