package compose

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/publish/recipe"
)

// small is a recipe that uses everything the build itself does, with few packages.
const small = `
name = "small"
version = "1.2.3"
exclude = ["/usr/share/doc/**", "/usr/share/locale/**"]

[base]
kind = "debian"
packages = ["dbus", "man-db", "openssh-client"]

[update]
repository = "registry.example/acme/small"

[services]
masked = ["dbus.service"]

[[groups]]
name = "staff-of-app"
gid = 1700

[[users]]
name = "app"
uid = 990
groups = ["staff-of-app"]
home = "/var/lib/app"

[[files]]
path = "/etc/app.conf"
content = "port = 1\n"
owner = "app"
mode = "0640"

[[run]]
command = """
id app > /usr/share/who
cat /etc/app.conf >> /usr/share/who
ls /sys/class/net | grep -v '^lo$' > /usr/share/networks || true
mkdir -p /var/lib/app && chown app:app /var/lib/app
ln /usr/share/who /etc/who
"""
`

// testCache is where packages are kept between runs of the tests.
func testCache(t *testing.T) string {
	if dir := os.Getenv("ASHLAR_TEST_CACHE"); dir != "" {
		return dir
	}
	return t.TempDir()
}

func writeRecipe(t *testing.T, text string) *recipe.Recipe {
	t.Helper()
	path := filepath.Join(t.TempDir(), "recipe.toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := recipe.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func digestOf(t *testing.T, tr *tree.Tree) verity.Digest {
	t.Helper()
	d, _, err := composefs.Digest(tr)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func contentOf(t *testing.T, tr *tree.Tree, path string) string {
	t.Helper()
	n := tr.Lookup(path)
	if n == nil {
		t.Fatalf("%q is not in the tree", path)
	}
	b, err := (&spool{}).content(n, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestTwice composes one recipe from what the mirror has, and again from the
// lock, elsewhere and with a mirror that does not exist: one image. It
// installs real packages and takes about a minute.
func TestTwice(t *testing.T) {
	cacheDir := testCache(t)
	small := small + fmt.Sprintf("\n[trust]\nroot = %q\n", newRoot(t))
	r := writeRecipe(t, small)
	first, err := Compose(t.Context(), Options{Recipe: r, Epoch: 1700000000, CacheDir: cacheDir, WorkDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	text, err := first.Lock.Encode()
	if err != nil {
		t.Fatal(err)
	}
	lock, err := recipe.DecodeLock("recipe.lock", text)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := writeRecipe(t, strings.Replace(small, `kind = "debian"`, "kind = \"debian\"\nmirror = \"http://127.0.0.1:9/debian\"", 1))
	second, err := Compose(t.Context(), Options{Recipe: elsewhere, Lock: lock, Epoch: 1, CacheDir: cacheDir, WorkDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	a, b := digestOf(t, first.Tree), digestOf(t, second.Tree)
	t.Logf("image %s", a)
	if a != b {
		t.Errorf("one lock gave two images:\n%s", differences(t, first.Tree, second.Tree))
	}
	if again, err := second.Lock.Encode(); err != nil || string(again) != string(text) {
		t.Errorf("building from a lock changed it (%v)", err)
	}
	checkSmall(t, first)
	t.Run("missing package", func(t *testing.T) { missingPackage(t, elsewhere, lock) })
}

// checkSmall looks for what the recipe asked for and the tree rules promise.
func checkSmall(t *testing.T, res *Result) {
	tr := res.Tree
	if root := contentOf(t, tr, rootPath); !strings.Contains(root, `"_type":"root"`) {
		t.Errorf("the publisher's root is %q", root)
	}
	if who := contentOf(t, tr, "/usr/share/who"); who != "uid=990(app) gid=990(app) groups=990(app)\nport = 1\n" {
		t.Errorf("the script saw %q", who)
	}
	if n := contentOf(t, tr, "/usr/share/networks"); n != "" {
		t.Errorf("the script had a network: %q", n)
	}
	if a, b := tr.Lookup("/usr/etc/who"), tr.Lookup("/usr/share/who"); a.Inode() != b.Inode() || a.Inode().Nlink != 2 {
		t.Error("a hard link across /etc and /usr was lost")
	}
	conf := tr.Lookup("/usr/etc/app.conf")
	if conf.UID != 990 || conf.GID != 0 || conf.Mode != tree.TypeRegular|0o640 || string(conf.Inline) != "port = 1\n" {
		t.Errorf("/usr/etc/app.conf is %+v", conf)
	}
	if group := contentOf(t, tr, "/usr/etc/group"); !strings.Contains(group, "\nstaff-of-app:x:1700:app\n") {
		t.Errorf("group lacks the membership:\n%s", group)
	}
	if lines := contentOf(t, tr, factoryLines); !strings.Contains(lines, "\nd /var/lib/app :0755 :990 :990 - -\n") {
		t.Errorf("no line makes /var/lib/app:\n%s", lines)
	}
	if n := tr.Lookup("/usr/etc/systemd/system/dbus.service"); n == nil || n.Target != "/dev/null" {
		t.Error("dbus.service is not masked")
	}
	if !strings.HasSuffix(string(res.OSRelease), "\nIMAGE_ID=small\nIMAGE_VERSION=1.2.3\n") {
		t.Errorf("os-release is %q", res.OSRelease)
	}
	if got := contentOf(t, tr, "/usr/lib/ashlar/update.toml"); !strings.Contains(got, "registry.example/acme/small") {
		t.Errorf("update.toml is %q", got)
	}
	for _, empty := range []string{"/etc", "/var", "/boot", "/dev", "/run", "/tmp", "/sysroot", "/efi"} {
		if n := tr.Lookup(empty); n == nil || !n.IsDir() || len(n.Children) > 0 {
			t.Errorf("%q is not an empty directory", empty)
		}
	}
	for _, gone := range []string{"/usr/etc/apt", "/usr/etc/passwd-", "/usr/etc/.pwd.lock", "/usr/share/doc/dbus", "/usr/lib/sysimage/dpkg/lock"} {
		if tr.Lookup(gone) != nil {
			t.Errorf("%q is in the image", gone)
		}
	}
	if n := tr.Lookup("/usr/share/man/man1/ssh.1"); n == nil || n.Inline == nil && n.Digest.IsZero() {
		t.Error("manual pages are not unpacked")
	}
	_ = tr.Walk(func(p string, n *tree.Node) error {
		if n.HardLink == nil && n.Mtime != (tree.Time{Sec: 1700000000}) {
			t.Errorf("%q has another time: %+v", p, n.Mtime)
		}
		return nil
	})
	for _, o := range tr.Objects() {
		if o.Digest.IsZero() {
			t.Error("an object has no digest")
		}
	}
}

// missingPackage takes one package away and expects it to be named.
func missingPackage(t *testing.T, r *recipe.Recipe, full *recipe.Lock) {
	empty := t.TempDir()
	lock := *full
	lock.Repositories = []recipe.LockRepository{{URI: "http://127.0.0.1:9/debian/", Suite: "trixie"}}
	lock.Packages = full.Packages[:1]
	_, err := Compose(t.Context(), Options{Recipe: r, Lock: &lock, CacheDir: empty, WorkDir: t.TempDir()})
	var missing *MissingError
	if !errors.As(err, &missing) {
		t.Fatalf("a package that is nowhere gave %v", err)
	}
	p := full.Packages[0]
	if !strings.Contains(err.Error(), p.Name+" "+p.Version) || missing.Hint() == "" {
		t.Errorf("the error does not name %s %s: %v", p.Name, p.Version, err)
	}
}

// differences lists the lines of the two trees' dumps that differ.
func differences(t *testing.T, a, b *tree.Tree) string {
	t.Helper()
	lines := func(tr *tree.Tree) map[string]bool {
		var text strings.Builder
		if err := composefs.WriteDump(&text, tr); err != nil {
			t.Fatal(err)
		}
		set := make(map[string]bool)
		for _, l := range strings.Split(text.String(), "\n") {
			set[l] = true
		}
		return set
	}
	la, lb := lines(a), lines(b)
	var out strings.Builder
	for l := range la {
		if !lb[l] {
			out.WriteString("- " + l + "\n")
		}
	}
	for l := range lb {
		if !la[l] {
			out.WriteString("+ " + l + "\n")
		}
	}
	return out.String()
}
