package compose

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/program"
)

// interpreter is what runs the script of TestDirectory: there is nothing else
// in its tree that could.
const interpreter = `package main

import (
	"fmt"
	"net"
	"os"
)

func main() {
	up := 0
	list, _ := net.Interfaces()
	for _, i := range list {
		if i.Flags&net.FlagUp != 0 {
			up++
		}
	}
	conf, _ := os.ReadFile("/etc/app.conf")
	_, null := os.Stat("/dev/null")
	text := fmt.Sprintf("uid %d, networks %d, conf %q, null %v\n", os.Getuid(), up, conf, null)
	if err := os.WriteFile("/usr/share/seen", []byte(text), 0o600); err != nil {
		panic(err)
	}
	if err := os.Chown("/usr/share/seen", 33, 44); err != nil {
		panic(err)
	}
}
`

// TestDirectory makes an image from a directory, with a script that runs in it
// and a compressed kernel module.
func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"usr/bin", "usr/share", "usr/lib/modules/1.0/kernel", "var/log", "var/lib/app", "etc"} {
		if err := os.MkdirAll(path(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	source := filepath.Join(t.TempDir(), "main.go")
	for name, text := range map[string]string{
		source: interpreter, path("var/log/old"): "x", path("etc/machine-id"): "0123\n", path("usr/lib/modules/1.0/kernel/a.ko"): strings.Repeat("module ", 100),
		path("etc/passwd"): "root:x:0:0:root:/root:/bin/sh\n", path("etc/group"): "root:x:0:\n", path("var/lib/app/data"): "kept",
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []program.Command{
		{Args: []string{"go", "build", "-o", path("usr/bin/tool"), source}, Env: []string{"CGO_ENABLED=0"}},
		{Args: []string{"xz", path("usr/lib/modules/1.0/kernel/a.ko")}},
	} {
		if _, err := program.Run(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	r := writeRecipe(t, `
name = "dir"
[base]
kind = "directory"
path = "`+dir+`"
[[files]]
path = "/etc/app.conf"
content = "a = 1"
[[run]]
command = "#!/usr/bin/tool\n"
`)
	res, err := Compose(t.Context(), Options{Recipe: r, Epoch: 7, WorkDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if got := contentOf(t, res.Tree, "/usr/share/seen"); got != "uid 0, networks 0, conf \"a = 1\", null <nil>\n" {
		t.Errorf("the script saw %q", got)
	}
	if n := res.Tree.Lookup("/usr/share/seen"); n.UID != 33 || n.GID != 44 || n.Mode&0o7777 != 0o600 {
		t.Errorf("the script's file is %+v", n)
	}
	if n := res.Tree.Lookup("/usr/bin/tool"); n.UID != 0 || n.GID != 0 || n.Mode&0o777 != 0o755 {
		t.Errorf("the caller's file is %+v", n)
	}
	if got := contentOf(t, res.Tree, "/usr/lib/modules/1.0/kernel/a.ko"); !strings.HasPrefix(got, "module module") {
		t.Errorf("the module is %q", got)
	}
	if got := contentOf(t, res.Tree, factoryVar+"/lib/app/data"); got != "kept" {
		t.Errorf("the factory copy has %q", got)
	}
	for _, gone := range []string{"/usr/lib/modules/1.0/kernel/a.ko.xz", factoryVar + "/log"} {
		if res.Tree.Lookup(gone) != nil {
			t.Errorf("%q is in the image", gone)
		}
	}
	if n := res.Tree.Lookup("/usr/etc/machine-id"); n == nil || n.Size != 0 {
		t.Error("machine-id is not empty")
	}
	again, err := Compose(t.Context(), Options{Recipe: r, Lock: res.Lock, WorkDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if digestOf(t, res.Tree) != digestOf(t, again.Tree) {
		t.Errorf("two images:\n%s", differences(t, res.Tree, again.Tree))
	}
}
