package publish

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/publish/compose"
)

// treeWith has these files, each of 1000 bytes.
func treeWith(paths ...string) *tree.Tree {
	root := &tree.Node{Mode: tree.TypeDir | 0o755}
	for _, path := range paths {
		at, names := root, strings.Split(strings.Trim(path, "/"), "/")
		for i, name := range names {
			next := at.Child(name)
			switch {
			case next != nil:
			case i < len(names)-1:
				next = at.Add(&tree.Node{Name: name, Mode: tree.TypeDir | 0o755})
			default:
				next = at.Add(&tree.Node{Name: name, Mode: tree.TypeRegular | 0o755, Nlink: 1, Size: 1000, Digest: verity.Digest{1}})
			}
			at = next
		}
	}
	return &tree.Tree{Root: root}
}

// TestCheckMedium: an image that could not install itself is refused before the work
// begins, with the package that would help.
func TestCheckMedium(t *testing.T) {
	const vfat, mke2fs, cryptsetup, loader = "/usr/sbin/mkfs.vfat", "/usr/sbin/mke2fs", "/usr/sbin/cryptsetup",
		"/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
	for _, c := range []struct {
		name              string
		paths             []string
		want, hint, notes string
	}{
		{"all", []string{vfat, mke2fs, cryptsetup, loader}, "", "", ""},
		{"a signed loader", []string{vfat, mke2fs, cryptsetup, loader + ".signed"}, "", "", ""},
		{"no encryption", []string{vfat, mke2fs, loader}, "", "", "its installer cannot encrypt disks"},
		{"no FAT", []string{mke2fs, cryptsetup, loader}, "it lacks /usr/sbin/mkfs.vfat", "add to the recipe's packages: dosfstools", ""},
		{"nothing", []string{"/usr/bin/true", cryptsetup}, "it lacks /usr/sbin/mkfs.vfat and /usr/sbin/mke2fs and systemd-boot",
			"add to the recipe's packages: dosfstools, e2fsprogs, systemd-boot-efi", ""},
	} {
		b := &build{Options: Options{Medium: &Medium{}}, tree: &compose.Result{Tree: treeWith(c.paths...)}}
		err := b.checkMedium(context.Background())
		var lacks *LacksError
		switch errors.As(err, &lacks); {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (lacks == nil || !strings.HasSuffix(err.Error(), c.want) || lacks.Hint() != c.hint):
			t.Errorf("%s: error %v, want one with %q and the hint %q", c.name, err, c.want, c.hint)
		}
		if notes := strings.Join(b.notes, "; "); !strings.HasSuffix(notes, c.notes) || c.notes == "" && notes != "" {
			t.Errorf("%s: notes %q, want %q", c.name, notes, c.notes)
		}
		b.Medium = nil
		if err := b.checkMedium(context.Background()); err != nil {
			t.Errorf("%s: no medium was asked for, and %v", c.name, err)
		}
	}
}
