package composefs

import (
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// Extended attributes by which an image tells overlayfs where content is, and
// by which it carries what overlayfs would otherwise act upon itself
// (Documentation/filesystems/overlayfs.rst, "Nesting overlayfs mounts").
const (
	overlayPrefix = "trusted.overlay."
	escapePrefix  = "trusted.overlay.overlay."

	keyMetacopy = "trusted.overlay.metacopy"
	keyRedirect = "trusted.overlay.redirect"
	keyOpaque   = "trusted.overlay.opaque"

	keyWhiteout      = "trusted.overlay.overlay.whiteout"
	keyWhiteouts     = "trusted.overlay.overlay.whiteouts"
	keyEscapedOpaque = "trusted.overlay.overlay.opaque"
	keyUserWhiteout  = "user.overlay.whiteout"
	keyUserWhiteouts = "user.overlay.whiteouts"
	keyUserOpaque    = "user.overlay.opaque"

	keySELinux = "security.selinux"
)

// metacopyHead begins the value of keyMetacopy: version 0, length 36, no flags,
// sha256; the digest follows (struct ovl_metacopy in the kernel).
var metacopyHead = [4]byte{0, 4 + verity.Size, 0, 1}

// isWhiteout reports whether n is the device by which an overlay layer says
// that a name of the layer below is gone.
func isWhiteout(n *tree.Node) bool { return n.Mode&tree.TypeMask == tree.TypeChar && n.Rdev == 0 }

// isExternal reports whether n's content is in an object outside of the image.
func isExternal(n *tree.Node) bool {
	return n.Mode&tree.TypeMask == tree.TypeRegular && n.Size > 0 && len(n.Inline) == 0
}

// attribute is an extended attribute as the image holds it.
type attribute struct {
	key    string
	value  []byte
	suffix string // what is left of key after its prefix
	index  uint8  // of the prefix
}

func (a *attribute) size() int64 {
	return roundUp(int64(xattrEntrySize+len(a.suffix)+len(a.value)), 4)
}

func newAttribute(key string, value []byte) attribute {
	a := attribute{key: key, value: value, suffix: key}
	for _, p := range xattrPrefixes {
		if strings.HasPrefix(key, p.prefix) {
			a.suffix, a.index = key[len(p.prefix):], p.index
			break
		}
	}
	return a
}

// attributes makes the extended attributes of one inode. It is used again and
// again: the list it returns, and the values in it, hold until the next call.
type attributes struct {
	list     []attribute
	metacopy [4 + verity.Size]byte
	redirect []byte
}

// of returns what the image holds for in, in order of keys.
func (s *attributes) of(im *image, in *inode) []attribute {
	n := in.node
	s.list = s.list[:0]
	for _, x := range n.Xattrs {
		key := x.Key
		if strings.HasPrefix(key, overlayPrefix) {
			key = escapePrefix + key[len(overlayPrefix):]
		}
		s.list = append(s.list, newAttribute(key, x.Value))
	}
	if isExternal(n) {
		s.addObject(n)
	}
	if in.is(whiteout) {
		s.set(keyWhiteout, "")
		s.set(keyUserWhiteout, "")
	}
	if in.is(hasWhiteouts) {
		s.set(keyWhiteouts, "")
		s.set(keyUserWhiteouts, "")
		if im.version >= 1 {
			s.set(keyEscapedOpaque, "x")
			s.set(keyUserOpaque, "x")
		}
	}
	if in == &im.inodes[0] {
		s.set(keyOpaque, "y")
	}
	if !slices.IsSortedFunc(s.list, compareKeys) {
		slices.SortFunc(s.list, compareKeys)
	}
	return s.list
}

// addObject says which object holds n's content. After escaping no other
// attribute can have these keys.
func (s *attributes) addObject(n *tree.Node) {
	value := s.metacopy[:0]
	if !n.Digest.IsZero() {
		value = append(append(value, metacopyHead[:]...), n.Digest[:]...)
	}
	s.list = append(s.list, attribute{key: keyMetacopy, value: value, suffix: keyMetacopy[len("trusted."):], index: 4})
	if n.Payload == "" {
		return
	}
	s.redirect = append(append(s.redirect[:0], '/'), n.Payload...)
	s.list = append(s.list, attribute{key: keyRedirect, value: s.redirect, suffix: keyRedirect[len("trusted."):], index: 4})
}

// set adds an attribute in place of one that the tree has under the same key.
func (s *attributes) set(key, value string) {
	a := newAttribute(key, []byte(value))
	for i := range s.list {
		if s.list[i].key == key {
			s.list[i] = a
			return
		}
	}
	s.list = append(s.list, a)
}

func compareKeys(a, b attribute) int { return strings.Compare(a.key, b.key) }

// withStubs returns a copy of root with a whiteout for each of the 256 names
// under which objects lie ("00" to "ff"), so that the data-only layer's
// directories cannot be seen through the root; a name that the tree uses is
// left alone. The second result says which children were added.
func withStubs(root *tree.Node) (*tree.Node, map[*tree.Node]bool) {
	const digits = "0123456789abcdef"
	var xattrs []tree.Xattr
	for _, x := range root.Xattrs {
		if x.Key == keySELinux {
			xattrs = []tree.Xattr{x}
		}
	}
	stubs := make(map[*tree.Node]bool, 256)
	merged := *root
	merged.Children = make([]*tree.Node, 0, len(root.Children)+256)
	rest := root.Children
	for i := range 256 {
		name := string([]byte{digits[i>>4], digits[i&15]})
		at, found := slices.BinarySearchFunc(rest, name, func(c *tree.Node, name string) int {
			return strings.Compare(c.Name, name)
		})
		merged.Children = append(merged.Children, rest[:at]...)
		rest = rest[at:]
		if found {
			continue
		}
		stub := &tree.Node{Name: name, Mode: tree.TypeChar | 0o644, Nlink: 1,
			UID: root.UID, GID: root.GID, Mtime: root.Mtime, Xattrs: xattrs}
		stubs[stub] = true
		merged.Children = append(merged.Children, stub)
	}
	merged.Children = append(merged.Children, rest...)
	return &merged, stubs
}
