package composefs

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// TestMount: what the kernel shows of an image, through EROFS and overlayfs, is
// the directory that it was made of, in content, mode, owner, time, extended
// attributes and hard links. This kernel need not have fs-verity; that overlayfs
// checks the objects is left to the stories in virtual machines.
func TestMount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts file systems: run it as root")
	}
	source := makeSource(t)
	tr := scanTree(t, source)
	work := t.TempDir()
	image, objects := filepath.Join(work, "image"), filepath.Join(work, "objects")
	if err := os.WriteFile(image, write(t, tr, Options{}), 0o644); err != nil {
		t.Fatal(err)
	}
	storeObjects(t, tr, objects)

	lower, merged := filepath.Join(work, "lower"), filepath.Join(work, "merged")
	for _, dir := range []string{lower, merged} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// With "loop" mount(8) also frees the loop device at unmount.
	if out, err := exec.Command("mount", "-t", "erofs", "-o", "ro,loop", image, lower).CombinedOutput(); err != nil {
		t.Fatalf("mounting the image: %v\n%s", err, out)
	}
	t.Cleanup(func() { unmount(t, lower) })
	mountOverlay(t, lower, objects, merged)
	t.Cleanup(func() { unmount(t, merged) })

	want, got := dump(t, tr), dump(t, scanTree(t, merged))
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("the mounted image differs from the directory that it was made of (-directory +mounted):\n%s", diff)
	}
}

func scanTree(t testing.TB, dir string) *tree.Tree {
	t.Helper()
	tr, err := ScanDir(context.Background(), dir, ScanOptions{HardLinks: true})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// makeSource makes a directory with everything in it that Linux has.
func makeSource(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	at := func(name string) string { return filepath.Join(root, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(root, 0o751))
	for _, dir := range []string{"a", "a/b", "a/b/c", "empty", "many", "ff"} {
		must(os.Mkdir(at(dir), 0o755))
	}
	for i := range 1500 { // several blocks of entries
		must(os.WriteFile(at("many/"+strings.Repeat("n", i%200)+string(rune('a'+i%26))+string(rune(0x4e00+i))), []byte{byte(i)}, 0o640))
	}
	for name, size := range map[string]int{"empty-file": 0, "one": 1, "inline": MaxInline, "object": MaxInline + 1,
		"a/block": 4096, "a/b/large": 3<<20 + 5, "a/b/c/again": 4096, "-dash": 70, "00": 100, " space\n": 100, strings.Repeat("x", 255): 100} {
		must(os.WriteFile(at(name), []byte(strings.Repeat("0123456789", size/10+1)[:size]), 0o644))
	}
	must(os.Link(at("a/block"), at("zz-link")))
	must(os.Link(at("one"), at("a/one")))
	must(os.Symlink("a/b", at("short")))
	must(os.Symlink("/"+strings.Repeat("long/", 818), at("long")))
	must(unix.Mkfifo(at("fifo"), 0o600))
	must(unix.Mknod(at("socket"), unix.S_IFSOCK|0o777, 0))
	must(os.WriteFile(at("big-id"), nil, 0o600))
	must(os.Chmod(at("object"), 0o4755|os.ModeSetuid))
	must(os.Chmod(at("empty"), 0o777|os.ModeSticky))
	for name, x := range map[string]string{"object": "user.a", "one": "user.a", "a": "user.dir", "a/b/large": "user.large"} {
		must(unix.Setxattr(at(name), x, []byte("value "+x), 0))
	}
	if os.Geteuid() == 0 {
		must(os.Chown(at("big-id"), 3_000_000_000, 70_000))
		must(os.Lchown(at("short"), 5, 6))
		must(unix.Mknod(at("device"), unix.S_IFCHR|0o660, int(unix.Mkdev(240, 300))))
		must(unix.Setxattr(at("a/b"), "trusted.t", []byte("x"), 0))
		must(unix.Setxattr(at("one"), "trusted.overlay.odd", []byte("escaped"), 0))
		must(unix.Lsetxattr(at("long"), "trusted.link", []byte("on a link"), 0))
	}
	must(unix.UtimesNanoAt(unix.AT_FDCWD, at("one"), []unix.Timespec{{Sec: 1}, {Sec: 1, Nsec: 999_999_999}}, 0))
	return root
}

// storeObjects copies the contents that tr does not hold to where its image
// says they are.
func storeObjects(t testing.TB, tr *tree.Tree, dir string) {
	t.Helper()
	err := tr.Walk(func(_ string, n *tree.Node) error {
		if !n.IsRegular() || n.Digest.IsZero() {
			return nil
		}
		content, err := os.ReadFile(n.Source)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, n.Payload)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		return os.WriteFile(path, content, 0o444)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// mountOverlay mounts without mount(8), since that of Debian 12 cannot say datadir+.
func mountOverlay(t testing.TB, lower, data, at string) {
	t.Helper()
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Fatalf("the kernel has no overlayfs: %v", err)
	}
	defer unix.Close(fs)
	for _, option := range [][2]string{{"lowerdir+", lower}, {"datadir+", data}, {"metacopy", "on"}, {"redirect_dir", "on"}} {
		if err := unix.FsconfigSetString(fs, option[0], option[1]); err != nil {
			t.Fatalf("overlayfs does not take %s: %v", option[0], err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		t.Fatalf("overlayfs does not take the image: %v", err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(mount)
	if err := unix.MoveMount(mount, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		t.Fatal(err)
	}
}

func unmount(t testing.TB, at string) {
	if err := unix.Unmount(at, 0); err != nil {
		t.Errorf("unmounting %q: %v", at, err)
	}
}
