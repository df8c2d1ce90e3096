package composefs

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// xattrs reads the extended attributes of an inode into n: those that say where
// its content is into the fields for that, the others without their escapes.
func (d *decoder) xattrs(n *tree.Node, raw *rawInode, external bool) error {
	var list []tree.Xattr
	if raw.xattrs > 0 {
		b, err := d.at(raw.offset+raw.head, raw.xattrs)
		if err != nil {
			return err
		}
		if list, err = d.xattrList(b); err != nil {
			return err
		}
	}
	metacopy, redirect := false, false
	for _, x := range list {
		switch rest, overlay := strings.CutPrefix(x.Key, overlayPrefix); {
		case strings.HasPrefix(x.Key, escapePrefix):
			x.Key = overlayPrefix + x.Key[len(escapePrefix):]
		case !overlay:
		case rest == "opaque" && raw.ino == 0:
			continue
		case rest == "metacopy" && external && !metacopy:
			metacopy = true
			var err error
			if n.Digest, err = decodeMetacopy(x.Value); err != nil {
				return err
			}
			continue
		case rest == "redirect" && external && !redirect:
			redirect = true
			if err := setPayload(n, string(x.Value)); err != nil {
				return err
			}
			continue
		default:
			return fmt.Errorf("the extended attribute %q has no place here", x.Key)
		}
		n.Xattrs = append(n.Xattrs, x)
	}
	if external && !metacopy {
		return fmt.Errorf("its content is elsewhere, but there is no %q", keyMetacopy)
	}
	slices.SortFunc(n.Xattrs, func(a, b tree.Xattr) int { return cmp.Compare(a.Key, b.Key) })
	return nil
}

// decodeMetacopy returns the digest of an object, or zero where none is given.
func decodeMetacopy(value []byte) (verity.Digest, error) {
	if len(value) == 0 {
		return verity.Digest{}, nil
	}
	b, ok := bytes.CutPrefix(value, metacopyHead[:])
	if !ok || len(b) != verity.Size {
		return verity.Digest{}, fmt.Errorf("%q does not hold a sha256 digest", keyMetacopy)
	}
	digest := verity.Digest(b)
	if digest.IsZero() {
		return digest, fmt.Errorf("%q holds a digest of zeros", keyMetacopy)
	}
	return digest, nil
}

// setPayload takes off the slash that the writer put before.
func setPayload(n *tree.Node, value string) error {
	if len(value) < 2 || value[0] != '/' {
		return fmt.Errorf("%q is %.80q, which is no absolute path of a file", keyRedirect, value)
	}
	n.Payload = value[1:]
	return nil
}

// xattrList reads the attributes of an inode's area.
func (d *decoder) xattrList(b []byte) ([]tree.Xattr, error) {
	refs := int64(b[4])
	if xattrHeadSize+4*refs > int64(len(b)) {
		return nil, fmt.Errorf("%d references to shared extended attributes do not fit", refs)
	}
	list := make([]tree.Xattr, 0, refs+2)
	for i := range refs {
		offset := d.xattrBase + 4*int64(binary.LittleEndian.Uint32(b[xattrHeadSize+4*i:]))
		x, ok := d.shared[offset]
		if !ok {
			rest, err := d.at(offset, int64(len(d.b))-offset)
			if err != nil {
				return nil, err
			}
			var n int
			if x, n, err = decodeXattr(rest); err != nil {
				return nil, err
			}
			if err := d.use(int64(n)); err != nil {
				return nil, err
			}
			x.Value = bytes.Clone(x.Value)
			d.shared[offset] = x
		}
		list = append(list, x)
	}
	for b = b[xattrHeadSize+4*refs:]; len(b) > 0; {
		x, n, err := decodeXattr(b)
		if err != nil {
			return nil, err
		}
		x.Value = bytes.Clone(x.Value)
		list = append(list, x)
		b = b[n:]
	}
	return list, nil
}

// decodeXattr reads one entry and returns its length. The value is part of b.
func decodeXattr(b []byte) (x tree.Xattr, n int, err error) {
	if len(b) < xattrEntrySize {
		return x, 0, errors.New("an extended attribute is cut off")
	}
	name, value := int(b[0]), int(binary.LittleEndian.Uint16(b[2:]))
	end := xattrEntrySize + name + value
	n = int(roundUp(int64(end), 4))
	if n > len(b) {
		return x, 0, errors.New("an extended attribute is cut off")
	}
	prefix, known := "", b[1] == 0
	for _, p := range xattrPrefixes {
		if p.index == b[1] {
			prefix, known = p.prefix, true
		}
	}
	if !known {
		return x, 0, fmt.Errorf("the prefix %d of an extended attribute is unknown", b[1])
	}
	x.Key = prefix + string(b[xattrEntrySize:xattrEntrySize+name])
	if name+value > 0 {
		x.Value = b[xattrEntrySize+name : end]
	}
	return x, n, nil
}

// marks are the attributes by which an image says that a directory has whiteouts.
func (d *decoder) marks() []tree.Xattr {
	// Keys here are unescaped: "trusted.overlay.overlay.x" reads as "trusted.overlay.x".
	list := []tree.Xattr{{Key: overlayPrefix + "whiteouts"}, {Key: keyUserWhiteouts}}
	if d.Version >= 1 {
		x := []byte("x")
		list = append(list, tree.Xattr{Key: keyOpaque, Value: x}, tree.Xattr{Key: keyUserOpaque, Value: x})
	}
	return list
}

// whiteoutMarks are those of a whiteout itself.
var whiteoutMarks = []tree.Xattr{{Key: overlayPrefix + "whiteout"}, {Key: keyUserWhiteout}}

func (d *decoder) marked(dir *tree.Node) bool { return hasAll(dir, d.marks()) }

func (d *decoder) unmark(dir *tree.Node) { drop(dir, d.marks()) }

// undoWhiteout turns an escaped whiteout back into a device and reports whether
// n is one. Where the directory is not marked, the attributes are the tree's own.
func undoWhiteout(n *tree.Node, marked bool) bool {
	if !marked || !n.IsRegular() || n.Size != 0 || !hasAll(n, whiteoutMarks) {
		return false
	}
	n.Mode = tree.TypeChar | n.Mode&tree.PermMask
	drop(n, whiteoutMarks)
	return true
}

func hasAll(n *tree.Node, marks []tree.Xattr) bool {
	if len(n.Xattrs) < len(marks) {
		return false
	}
	for _, m := range marks {
		if !slices.ContainsFunc(n.Xattrs, func(x tree.Xattr) bool { return x.Key == m.Key && bytes.Equal(x.Value, m.Value) }) {
			return false
		}
	}
	return true
}

func drop(n *tree.Node, marks []tree.Xattr) {
	n.Xattrs = slices.DeleteFunc(n.Xattrs, func(x tree.Xattr) bool {
		return slices.ContainsFunc(marks, func(m tree.Xattr) bool { return m.Key == x.Key })
	})
	if len(n.Xattrs) == 0 {
		n.Xattrs = nil
	}
}
