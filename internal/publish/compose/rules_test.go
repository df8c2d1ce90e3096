package compose

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/publish/recipe"
)

// newBuilder gives a builder with a spool, and a tree made from entries that
// readTar reads: "path content", "path/" for a directory, "path -> target",
// "path = first" for a hard link.
func newBuilder(t *testing.T, r *recipe.Recipe, entries ...string) (*builder, *tree.Tree) {
	t.Helper()
	s, err := newSpool(filepath.Join(t.TempDir(), "objects"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Typeflag: tar.TypeReg, Mode: 0o644, Format: tar.FormatPAX}
		name, content, _ := strings.Cut(e, " ")
		h.Name = "." + name
		switch {
		case strings.HasSuffix(name, "/"):
			h.Typeflag, h.Mode, content = tar.TypeDir, 0o755, ""
		case strings.HasPrefix(content, "-> "):
			h.Typeflag, h.Linkname, content = tar.TypeSymlink, content[3:], ""
		case strings.HasPrefix(content, "= "):
			h.Typeflag, h.Linkname, content = tar.TypeLink, "."+content[2:], ""
		}
		h.Size = int64(len(content))
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	tr, err := readTar(t.Context(), &b, s, progress.None)
	if err != nil {
		t.Fatal(err)
	}
	if r == nil {
		r = &recipe.Recipe{Name: "t", Version: "1"}
	}
	return &builder{o: Options{Recipe: r}, lock: &recipe.Lock{Epoch: 5}, report: progress.None, spool: s, result: &Result{}}, tr
}

// targets lists the links below dir as "path -> target".
func targets(tr *tree.Tree, dir string) []string {
	var list []string
	n := tr.Lookup(dir)
	if n == nil {
		return nil
	}
	_ = (&tree.Tree{Root: n}).Walk(func(p string, n *tree.Node) error {
		if n.IsSymlink() {
			list = append(list, p+" -> "+n.Target)
		}
		return nil
	})
	return list
}

// The links must be those that systemctl makes.
func TestServices(t *testing.T) {
	units := map[string]string{
		"web.service":       "[Unit]\nDescription=x\n[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target graphical.target\nAlias=www.service\nAlso=web.socket\n",
		"web.socket":        "[Socket]\nListenStream=80\n[Install]\nWantedBy=sockets.target\n",
		"job@.service":      "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\nRequiredBy=need-%i.target\nDefaultInstance=one\n",
		"reset.service":     "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=a.target \\\n  b.target\nWantedBy=\nWantedBy=c.target\n",
		"unwanted.service":  "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n",
		"forbidden.service": "[Service]\nExecStart=/bin/true\n",
	}
	var entries []string
	dir := t.TempDir()
	for name, text := range units {
		entries = append(entries, "/usr/lib/systemd/system/"+name+" "+text)
		path := filepath.Join(dir, "usr/lib/systemd/system", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := &recipe.Recipe{Services: recipe.Services{
		Enabled:  []string{"web.service", "job@two.service", "job@.service", "reset.service", "unwanted.service"},
		Disabled: []string{"unwanted.service"}, Masked: []string{"forbidden.service"},
	}}
	b, tr := newBuilder(t, r, entries...)
	if err := b.setServices(tr); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(targets(tr, "/etc/systemd/system"), "\n")
	want := strings.Join([]string{
		"/forbidden.service -> /dev/null",
		"/graphical.target.wants/web.service -> /usr/lib/systemd/system/web.service",
		"/c.target.wants/reset.service -> /usr/lib/systemd/system/reset.service",
	}, "\n")
	for _, w := range strings.Split(want, "\n") {
		if !strings.Contains(got, w) {
			t.Errorf("no %q in\n%s", w, got)
		}
	}
	if strings.Contains(got, "unwanted") || strings.Contains(got, "/a.target.wants") {
		t.Errorf("links that should not be there:\n%s", got)
	}
	for verb, list := range map[string][]string{"enable": r.Services.Enabled, "mask": r.Services.Masked} {
		args := append([]string{"systemctl", "--root=" + dir, verb}, list...)
		if _, err := program.Run(t.Context(), program.Command{Args: args}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := program.Run(t.Context(), program.Command{Args: []string{"systemctl", "--root=" + dir, "disable", "unwanted.service"}}); err != nil {
		t.Fatal(err)
	}
	var oracle []string
	err := filepath.Walk(filepath.Join(dir, "etc/systemd/system"), func(p string, fi os.FileInfo, err error) error {
		if err == nil && fi.Mode()&os.ModeSymlink != 0 {
			target, _ := os.Readlink(p)
			oracle = append(oracle, strings.TrimPrefix(p, filepath.Join(dir, "etc/systemd/system"))+" -> "+strings.TrimPrefix(target, dir))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Join(oracle, "\n"); got != want {
		t.Errorf("links are\n%s\nsystemctl makes\n%s", got, want)
	}
}

// A machine with OpenSSH makes its host keys although Debian has a unit for
// that: it waits for what systemd takes for a first boot, and sshd for ever.
func TestHostKeysAreMade(t *testing.T) {
	b, tr := newBuilder(t, nil, "/usr/sbin/sshd x",
		"/usr/lib/systemd/system/ssh.service [Service]\nExecStart=/usr/sbin/sshd -D\n",
		"/usr/lib/systemd/system/sshd-keygen.service [Unit]\nConditionFirstBoot=yes\n[Install]\nWantedBy=ssh.service\n")
	if err := errors.Join(b.addAgent(tr), b.setServices(tr)); err != nil {
		t.Fatal(err)
	}
	links := strings.Join(targets(tr, "/etc/systemd/system"), "\n")
	if want := "/ssh.service.wants/ashlar-ssh-keys.service -> "; !strings.Contains(links, want) {
		t.Errorf("no %q in\n%s", want, links)
	}
}

func TestServicesRefuse(t *testing.T) {
	for unit, want := range map[string]string{"gone.service": "no such unit", "job@.service": "which instance", "off.service": "masked"} {
		b, tr := newBuilder(t, &recipe.Recipe{Services: recipe.Services{Enabled: []string{unit}}},
			"/usr/lib/systemd/system/job@.service [Install]\nWantedBy=x.target\n", "/etc/systemd/system/off.service -> /dev/null")
		if err := b.setServices(tr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gave %v", unit, err)
		}
	}
}

func TestRenumber(t *testing.T) {
	tab := &table{rows: [][]string{{"a", "x", "999"}, {"b", "x", "998"}, {"c", "x", "997"}, {"new", "x", "996"}}}
	// b and a change places, c is where the previous release had "gone".
	changed, err := renumber(tab, map[string]uint32{"a": 998, "b": 999, "gone": 997})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]uint32{"a": 998, "b": 999, "c": 995, "new": 996}
	for _, r := range tab.rows {
		if idOf(r) != want[r[0]] {
			t.Errorf("%s has %d, want %d", r[0], idOf(r), want[r[0]])
		}
	}
	if len(changed) != 3 || changed[999] != 998 || changed[998] != 999 || changed[997] != 995 {
		t.Errorf("changed %v", changed)
	}
	if _, err := renumber(tab, map[string]uint32{"a": 5, "b": 5}); err == nil {
		t.Error("two names with one id were taken")
	}
}

func TestMapACL(t *testing.T) {
	acl := make([]byte, 4+3*8)
	binary.LittleEndian.PutUint32(acl, 2)
	for i, e := range []struct {
		tag uint16
		id  uint32
	}{{0x02, 10}, {0x08, 20}, {0x20, 0xffffffff}} {
		binary.LittleEndian.PutUint16(acl[4+i*8:], e.tag)
		binary.LittleEndian.PutUint32(acl[8+i*8:], e.id)
	}
	got := mapACL(acl, map[uint32]uint32{10: 11}, map[uint32]uint32{20: 21})
	for i, want := range []uint32{11, 21, 0xffffffff} {
		if id := binary.LittleEndian.Uint32(got[8+i*8:]); id != want {
			t.Errorf("entry %d has id %d, want %d", i, id, want)
		}
	}
}

// A link's first name may move away from it, or be excluded.
func TestHardLinksSurviveMoves(t *testing.T) {
	long := strings.Repeat("x", 100)
	b, tr := newBuilder(t, &recipe.Recipe{Exclude: []string{"/usr/gone/*"}},
		"/a/first "+long, "/usr/z = /a/first", "/usr/etc2/ ", "/usr/gone/one "+long+"1", "/usr/kept = /usr/gone/one", "/usr/kept2 = /usr/gone/one")
	moved := tr.Root.Remove("a")
	tr.Lookup("/usr/etc2").Add(moved)
	for _, step := range []func(*tree.Tree) error{b.exclude, b.normalise} {
		if err := step(tr); err != nil {
			t.Fatal(err)
		}
	}
	for _, pair := range [][2]string{{"/usr/etc2/a/first", "/usr/z"}, {"/usr/kept", "/usr/kept2"}} {
		first, second := tr.Lookup(pair[0]), tr.Lookup(pair[1])
		if first.HardLink != nil || second.HardLink != first || first.Nlink != 2 || first.Digest.IsZero() || first.Size < 100 {
			t.Errorf("%s is %+v, %s is %+v", pair[0], first, pair[1], second)
		}
	}
}

func TestFactory(t *testing.T) {
	b, tr := newBuilder(t, nil,
		"/var/lib/app/ ", "/var/lib/app/state hello", "/var/lib/own/ ", "/var/lib/own/f x",
		"/usr/lib/tmpfiles.d/own.conf d /var/lib/own 0700 root root\nx /var/lib/app\n")
	tr.Lookup("/var/lib/app").Mode = tree.TypeDir | 0o2750
	tr.Lookup("/var/lib/app").GID = 7
	if err := putSymlink(tr, "/var/lib/app/with space", "/x y%"); err != nil {
		t.Fatal(err)
	}
	if err := b.makeFactory(tr); err != nil {
		t.Fatal(err)
	}
	_, lines, _ := strings.Cut(contentOf(t, tr, factoryLines), "\n")
	want := `d /var/lib :0755 :0 :0 - -
d /var/lib/app :2750 :0 :7 - -
C /var/lib/app/state :0644 :0 :0 - /usr/share/factory/var/lib/app/state
L "/var/lib/app/with space" - - - - /x y%%
C /var/lib/own/f :0644 :0 :0 - /usr/share/factory/var/lib/own/f
`
	if lines != want {
		t.Errorf("lines are\n%swant\n%s", lines, want)
	}
	if got := contentOf(t, tr, factoryVar+"/lib/app/state"); got != "hello" {
		t.Errorf("the copy has %q", got)
	}
	if len(tr.Lookup("/var").Children) != 0 {
		t.Error("/var is not empty")
	}
}

func TestDocs(t *testing.T) {
	page := strings.Repeat("text of a page\n", 20)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(page))
	_ = z.Close()
	b, tr := newBuilder(t, nil, "/usr/share/man/man1/a.1.gz "+packed.String(), "/usr/share/man/man1/b.1.gz -> a.1.gz",
		"/usr/share/man/man1/c.1.gz = /usr/share/man/man1/a.1.gz", "/usr/share/man/man1/d.1.gz -> /etc/alternatives/d.1.gz",
		"/etc/alternatives/d.1.gz -> /usr/share/man/man1/a.1.gz", "/usr/share/other/x.gz "+packed.String())
	if err := b.uncompressDocs(tr); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/usr/share/man/man1/a.1", "/usr/share/man/man1/b.1", "/usr/share/man/man1/c.1", "/usr/share/man/man1/d.1"} {
		n := followFile(tr, p)
		if n == nil {
			t.Errorf("%q leads nowhere", p)
			continue
		}
		if got, err := b.spool.content(n, 1<<20); err != nil || string(got) != page {
			t.Errorf("%q has %q (%v)", p, got, err)
		}
	}
	if tr.Lookup("/usr/share/other/x.gz") == nil {
		t.Error("a file that is no documentation was unpacked")
	}
	bad, tr := newBuilder(t, nil, "/usr/share/man/man1/a.1.gz not gzip")
	if err := bad.uncompressDocs(tr); err == nil || !strings.Contains(err.Error(), "/usr/share/man/man1/a.1.gz") {
		t.Errorf("a broken page gave %v", err)
	}
}

func TestReadTarRefuses(t *testing.T) {
	for name, h := range map[string]*tar.Header{
		"leads out":              {Name: "../x", Typeflag: tar.TypeReg},
		"which is not there":     {Name: "x", Typeflag: tar.TypeLink, Linkname: "gone"},
		"longer than 255":        {Name: strings.Repeat("x", 256), Typeflag: tar.TypeReg},
		"root is not":            {Name: "./", Typeflag: tar.TypeSymlink, Linkname: "x"},
		"unknown type of entry":  {Name: "x", Typeflag: 'Z'},
		"\"f\" is not a directo": {Name: "f/x", Typeflag: tar.TypeReg},
	} {
		var b bytes.Buffer
		tw := tar.NewWriter(&b)
		_ = tw.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg})
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		s, err := newSpool(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readTar(context.Background(), &b, s, progress.None); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// dpkg reads the package that stands in for an initramfs tool.
func TestStandIn(t *testing.T) {
	x, err := writeStandIn(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), x.file)
	if err := os.WriteFile(path, standInPackage(), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := program.Run(t.Context(), program.Command{Args: []string{"dpkg-deb", "--field", path, "Package", "Provides"}})
	if err != nil || string(out) != "Package: ashlar-initramfs\nProvides: linux-initramfs-tool\n" {
		t.Errorf("dpkg-deb says %q (%v)", out, err)
	}
	if _, err := program.Run(t.Context(), program.Command{Args: []string{"dpkg-deb", "--contents", path}}); err != nil {
		t.Error(err)
	}
}

func FuzzParseInstall(f *testing.F) {
	f.Add("[Install]\nWantedBy=a b\\\n c\nAlias=\n")
	f.Fuzz(func(t *testing.T, text string) { parseInstall(text) })
}

func FuzzParseURIs(f *testing.F) {
	repos := []recipe.Repository{{URI: "http://deb.debian.org/debian/"}}
	f.Add("'http://deb.debian.org/debian/pool/a/a_1%3a2_amd64.deb' a_1%3a2_amd64.deb 12 SHA256:00\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseURIs([]byte(text), repos)
		if err == nil && len(list) == 0 {
			t.Fatal("no package and no error")
		}
	})
}
