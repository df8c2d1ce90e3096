package composefs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// hostile makes an image of a few inodes and lets spoil change it.
func hostile(t *testing.T, spoil func(b []byte, im *image)) error {
	t.Helper()
	tr := parse(t, rootLine+"/dir 0 40755 2 0 0 0 1.0 - - -\n/dir/sub 0 40755 2 0 0 0 1.0 - - -\n"+
		"/dir/sub/file 99 100644 1 0 0 0 1.0 x/y - "+strings.Repeat("ab", 32)+" user.a=b\n"+
		"/dir/sub/link 0 @100644 1 0 0 0 1.0 /dir/sub/file - -\n/dir/target 0 120777 1 0 0 0 1.0 else - -\n")
	im, err := newImage(tr, Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := write(t, tr, Options{})
	spoil(b, im)
	_, err = ReadBytes(b)
	return err
}

// numberOf is the inode number of a name.
func numberOf(im *image, name string) int {
	for i := range im.inodes {
		if im.inodes[i].node.Name == name {
			return i
		}
	}
	return -1
}

func TestHostileImages(t *testing.T) {
	le := binary.LittleEndian
	at := func(b []byte, im *image, name string) []byte { return b[im.inodes[numberOf(im, name)].pos:] }
	// entryOf finds the directory entry of a name by the inode that it leads to.
	entryOf := func(b []byte, im *image, dir, name string) []byte {
		rest := at(b, im, dir)
		return rest[bytes.Index(rest, le.AppendUint64(nil, uint64(im.inodes[numberOf(im, name)].pos/slotSize))):]
	}
	for name, c := range map[string]struct {
		spoil func(b []byte, im *image)
		want  string
	}{
		"magic":        {func(b []byte, _ *image) { b[0]++ }, "it does not begin with the magic number"},
		"version":      {func(b []byte, _ *image) { b[12] = 2 }, "the field composefs_version is 0x2"},
		"incompatible": {func(b []byte, _ *image) { b[superOffset+80] = 1 }, "the field feature_incompat is 0x1"},
		"blocks":       {func(b []byte, _ *image) { b[superOffset+36]++ }, "but says that it has"},
		"inodes":       {func(b []byte, _ *image) { b[superOffset+16]++ }, "its superblock says"},
		"root":         {func(b []byte, im *image) { le.PutUint16(b[superOffset+14:], 0xffff) }, "outside of the file"},
		"circle": {func(b []byte, im *image) {
			le.PutUint64(entryOf(b, im, "dir", "sub"), uint64(im.inodes[numberOf(im, "dir")].pos/slotSize))
		}, "a hard link to a directory"},
		"hard link to a directory": {func(b []byte, im *image) {
			e := entryOf(b, im, "sub", "file")
			le.PutUint64(e, uint64(im.inodes[numberOf(im, "dir")].pos/slotSize))
			e[10] = entryDir
		}, "a hard link to a directory"},
		"nid":    {func(b []byte, im *image) { le.PutUint64(entryOf(b, im, "dir", "sub"), 1<<60) }, "outside of the file"},
		"number": {func(b []byte, im *image) { le.PutUint32(at(b, im, "sub")[20:], 0xffffffff) }, "which no directory has first"},
		"type":   {func(b []byte, im *image) { entryOf(b, im, "dir", "sub")[10] = entryRegular }, "entry of type 1"},
		"name":   {func(b []byte, im *image) { entryOf(b, im, "dir", "sub")[8] = 0xff }, "a name goes from"},
		"slash": {func(b []byte, im *image) {
			copy(b[bytes.Index(b, []byte("subtarget")):], "s/b")
		}, "holds a slash"},
		"up and out": {func(b []byte, im *image) {
			le.PutUint64(entryOf(b, im, "sub", "dir"), uint64(im.inodes[numberOf(im, "target")].pos/slotSize))
		}, `".." leads to`},
		"order": {func(b []byte, im *image) {
			copy(b[bytes.Index(b, []byte("filelink")):], "zile")
		}, `"link" comes after "zile"`},
		"mode":        {func(b []byte, im *image) { le.PutUint16(at(b, im, "file")[4:], 0o170644) }, "for an inode of mode"},
		"huge target": {func(b []byte, im *image) { le.PutUint32(at(b, im, "target")[8:], 0xfffffff0) }, "the symbolic link's target has"},
		"huge dir":    {func(b []byte, im *image) { le.PutUint32(at(b, im, "dir")[8:], 0xfffffff0) }, "more than the image"},
		"xattrs":      {func(b []byte, im *image) { le.PutUint16(at(b, im, "file")[2:], 0xffff) }, "overlap"},
		"shared refs": {func(b []byte, im *image) { at(b, im, "file")[extendedSize+4] = 255 }, "references to shared extended attributes do not fit"},
		"metacopy": {func(b []byte, im *image) {
			copy(b[bytes.Index(b, []byte("overlay.metacopy")):], "overlay.metadata")
		}, `"trusted.overlay.metadata" has no place here`},
		"layout": {func(b []byte, im *image) { b[im.inodes[numberOf(im, "target")].pos] |= 3 << 1 }, "has the layout"},
	} {
		if err := hostile(t, c.spoil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: ReadBytes says %v, want %q in it", name, err, c.want)
		}
	}
	if err := hostile(t, func([]byte, *image) {}); err != nil {
		t.Errorf("the image that was not spoilt: %v", err)
	}
}

// TestOverlap: a thousand directories that all have the same large block do not
// become a thousand times the block.
func TestOverlap(t *testing.T) {
	tr := systemTree(40 * 300)
	for _, dir := range tr.Root.Children {
		for _, file := range dir.Children {
			file.Name += strings.Repeat("x", 60) // a directory has a block of its own
		}
	}
	im, err := newImage(tr, Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := write(t, tr, Options{})
	first := im.inodes[numberOf(im, tr.Root.Children[0].Name)]
	last := im.inodes[numberOf(im, tr.Root.Children[299].Name)]
	if first.blocks == 0 || last.blocks == 0 {
		t.Fatal("the directories have no blocks")
	}
	le := binary.LittleEndian
	for i := range 300 {
		in := &im.inodes[numberOf(im, tr.Root.Children[i].Name)]
		le.PutUint32(b[in.pos+8:], uint32(len(b)/blockSize/2*blockSize))
		le.PutUint32(b[in.pos+16:], le.Uint32(b[first.pos+16:]))
	}
	if _, err := ReadBytes(b); err == nil {
		t.Error("an image whose directories overlap is accepted")
	}
}

// TestCutOff: no prefix of an image is taken for an image, and what a reader
// says when it fails is passed on.
func TestCutOff(t *testing.T) {
	tr := randomTree(7, 300)
	image := write(t, tr, Options{})
	im, err := newImage(tr, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for size := range int64(len(image)) {
		if size%997 != 0 && size%blockSize != 0 {
			continue
		}
		if _, err := Read(bytes.NewReader(image), size); err == nil {
			t.Fatalf("the first %d of %d bytes are taken for an image", size, len(image))
		}
		if _, err := Read(bytes.NewReader(image[:size]), int64(len(image))); err == nil {
			t.Fatalf("%d bytes are taken for an image of %d", size, len(image))
		}
		// Objects reads no further than the inodes.
		if _, err := Objects(bytes.NewReader(image[:size]), int64(len(image))); err == nil && size < im.inodesEnd-slotSize {
			t.Fatalf("Objects takes %d bytes for an image of %d", size, len(image))
		}
	}
	broken := errors.New("broken disk")
	if err := Write(io.MultiWriter(&failing{broken}), randomTree(7, 300), Options{}); !errors.Is(err, broken) {
		t.Errorf("Write to a failing writer says %v", err)
	}
	if _, err := ParseDump(io.MultiReader(strings.NewReader(rootLine), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("ParseDump of a failing reader says %v", err)
	}
}

type failing struct{ err error }

func (f *failing) Write([]byte) (int, error) { return 0, f.err }

// TestWriteRefuses: what a program put together wrongly is named by its path.
func TestWriteRefuses(t *testing.T) {
	dir := func(children ...*tree.Node) *tree.Tree {
		return &tree.Tree{Root: &tree.Node{Mode: tree.TypeDir, Children: []*tree.Node{{Name: "d", Mode: tree.TypeDir, Children: children}}}}
	}
	file := func(name string) *tree.Node { return &tree.Node{Name: name, Mode: tree.TypeRegular} }
	for want, tr := range map[string]*tree.Tree{
		"no root directory":                        {},
		`"/d/a": the names of the directory are`:   dir(file("b"), file("a")),
		`"/d/a/b": the file name "a/b" holds`:      dir(file("a/b")),
		`"/d/": the file name is empty`:            dir(file("")),
		`"/d/a": mode 644 has no known file type`:  dir(&tree.Node{Name: "a", Mode: 0o644}),
		`"/d/l": the hard link's target is a dir`:  dir(&tree.Node{Name: "l", HardLink: &tree.Node{Mode: tree.TypeDir}}),
		`whose name is "away", is not in the tree`: dir(&tree.Node{Name: "l", HardLink: file("away")}),
		`"/d/s": the symbolic link has no target`:  dir(&tree.Node{Name: "s", Mode: tree.TypeSymlink}),
		`"/d/x": the extended attributes are not`:  dir(&tree.Node{Name: "x", Mode: tree.TypeRegular, Xattrs: []tree.Xattr{{Key: "user.b"}, {Key: "user.a"}}}),
	} {
		if err := Write(io.Discard, tr, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Write says %v, want %q in it", err, want)
		}
	}
}
