package recipe

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// The recipes that the project ships are right.
func TestShipped(t *testing.T) {
	paths, err := filepath.Glob("../../../recipes/*.toml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recipes (%v)", err)
	}
	for _, p := range paths {
		if _, err := Load(p); err != nil {
			t.Error(err)
		}
	}
}

func TestOffendingLine(t *testing.T) {
	tests := []struct{ text, line, msg string }{
		{"name = \"a\"\nverison = \"1\"\n", `verison = "1"`, `unknown key "verison"`},
		{"[base]\nkind = \"debian\"\npackges = []\n", "packges = []", `unknown key "base.packges"`},
		{"name = \"a\n", `name = "a`, "string"},
		{"name = 1\n", "name = 1", "string"},
		{"[base]\npackages = [\n  \"ok\",\n  \"Not OK\",\n]\n", `  "Not OK",`, `"Not OK" is not a package name`},
		{"[[files]]\npath = \"/a\"\ncontent = \"\"\n[[files]]\npath = \"b\"\ncontent = \"\"\n", `path = "b"`, `"b" is not an absolute path`},
		{"[[files]]\npath = \"/a/../b\"\ncontent = \"\"\n", `path = "/a/../b"`, "shortest form"},
		{"[[files]]\npath = \"/a\"\n", "[[files]]", "exactly one of"},
		{"files = [{path = \"/a\", content = \"\", mode = \"9\"}]\n", `files = [{path = "/a", content = "", mode = "9"}]`, `"9" is not an octal mode`},
		{"[[files]]\npath = \"/a\"\ncontent = \"\"\nowner = \"No One\"\n", `owner = "No One"`, "not a user or group name"},
		{"[[users]]\nname = \"x\"\n", "[[users]]", `user "x" has no uid`},
		{"[[users]]\nname = \"x\"\nuid = 5\nhome = \"/a:b\"\n", `home = "/a:b"`, "cannot hold"},
		{"[[groups]]\nname = \"x\"\n", "[[groups]]", `group "x" has no gid`},
		{"[kernel]\narguments = [\"a b\"]\n", `arguments = ["a b"]`, `"a b" is not one kernel argument`},
		{"[kernel]\narguments = [\"ashlar.image=1\"]\n", `arguments = ["ashlar.image=1"]`, "not for recipes"},
		{"[services]\nenabled = [\"ssh\"]\n", `enabled = ["ssh"]`, `"ssh" is not a unit name`},
		{"[base]\nmirror = \"ftp://x\"\n", `mirror = "ftp://x"`, "URI"},
		{"[base]\nmirror = \"http://x\"\nsnapshot = \"20250101T000000Z\"\n", `snapshot = "20250101T000000Z"`, "not both"},
		{"[[base.repositories]]\nuri = \"http://x\"\nsuite = \"s\"\n", "[[base.repositories]]", "has components"},
		{"[[run]]\ncommand = \"a\"\nsource = \"b\"\n", "[[run]]", "either command or source"},
		{"exclude = [\"usr\"]\n", `exclude = ["usr"]`, "absolute paths"},
		{"include = [\"/abs.toml\"]\n", `include = ["/abs.toml"]`, "relative to this recipe"},
		{"[update]\ninterval = \"soon\"\n", `interval = "soon"`, "time span"},
		{"[kernel]\narguments = [\"--\"]\n", `arguments = ["--"]`, `"--" is not one kernel argument`},
		{"[boot]\nforeign = \"ask\"\n", `foreign = "ask"`, `"ask" is not one of`},
		{"modules = \"none\"\n", `modules = "none"`, `"none" is not one of`},
		{"[health]\nunits = [\"web\"]\n", `units = ["web"]`, "unit name with its suffix"},
		{"[health]\nunits = [\"\"]\n", `units = [""]`, "a unit has a name"},
		{"[health]\nchecks = [\n\"ok\",\n\"a b\"]\n", `"a b"]`, `"a b" is not a file whose name`},
		{"[health]\ntimeout = 0\n", `timeout = 0`, "1 to 3600 seconds"},
		{"[health]\nwatchdog = 5\n", `watchdog = 5`, "10 to 600 seconds"},
		{"[health]\nnetwork = \"yes\"\n", `network = "yes"`, "cannot"},
		{"[health]\ncheck = []\n", `check = []`, "unknown key"},
	}
	for _, tt := range tests {
		_, err := parse("r.toml", []byte(tt.text))
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%q gave %v", tt.text, err)
			continue
		}
		if e.Text != tt.line || !strings.Contains(e.Msg, tt.msg) {
			t.Errorf("%q gave line %q and %q, want %q and %q", tt.text, e.Text, e.Msg, tt.line, tt.msg)
		}
		if lines := strings.Split(tt.text, "\n"); lines[e.Line-1] != tt.line {
			t.Errorf("%q: line %d is not the one shown", tt.text, e.Line)
		}
	}
}

func TestErrorText(t *testing.T) {
	err := (&Error{File: "r.toml", Line: 3, Text: "x = 1", Msg: "unknown key \"x\""}).Error()
	if want := "r.toml:3: unknown key \"x\"\n  3 | x = 1"; err != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestIncludeAndMerge(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "parts/common.toml", `
name = "common"
[base]
kind = "debian"
packages = ["a1", "b1"]
keys = "keys.gpg"
[trust]
root = "../keys/root.json"
[kernel]
arguments = ["quiet"]
[[files]]
path = "/etc/x"
source = "x.conf"
[[files]]
path = "/etc/y"
content = "y"
[[users]]
name = "app"
uid = 900
`)
	path := write(t, dir, "own.toml", `
include = ["parts/common.toml"]
name = "own"
[base]
packages = ["b1", "c1"]
[kernel]
arguments = ["console=ttyS0"]
[[files]]
path = "/etc/y"
content = "mine"
[[users]]
name = "app"
uid = 901
`)
	r, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if r.Name != "own" || r.Base.Kind != BaseDebian || r.Base.Suite != DefaultSuite || r.Base.Mirror != DefaultMirror {
		t.Errorf("values: %+v", r)
	}
	if want := []string{"a1", "b1", "c1"}; !reflect.DeepEqual(r.Base.Packages, want) {
		t.Errorf("packages %q, want %q", r.Base.Packages, want)
	}
	if want := []string{"quiet", "console=ttyS0", "panic=10", "systemd.import_credentials=no", "--"}; !reflect.DeepEqual(r.CommandLine(), want) {
		t.Errorf("command line %q, want %q", r.CommandLine(), want)
	}
	if len(r.Files) != 2 || *r.Files[1].Content != "mine" || r.Files[0].Source != filepath.Join(dir, "parts/x.conf") {
		t.Errorf("files %+v", r.Files)
	}
	if len(r.Users) != 1 || *r.Users[0].UID != 901 {
		t.Errorf("users %+v", r.Users)
	}
	if r.Base.Keys != filepath.Join(dir, "parts/keys.gpg") {
		t.Errorf("keys %q", r.Base.Keys)
	}
	if r.Trust.Root != filepath.Join(dir, "keys/root.json") {
		t.Errorf("root %q", r.Trust.Root)
	}
}

func TestIncludeRefuses(t *testing.T) {
	dir := t.TempDir()
	a := write(t, dir, "a.toml", "include = [\"b.toml\"]\n")
	write(t, dir, "b.toml", "include = [\"./a.toml\"]\n")
	if _, err := Load(a); err == nil || !strings.Contains(err.Error(), "includes itself") {
		t.Errorf("a cycle gave %v", err)
	}
	none := write(t, dir, "none.toml", "include = [\"gone.toml\"]\n")
	if _, err := Load(none); err == nil || !strings.Contains(err.Error(), "gone.toml") {
		t.Errorf("a missing include gave %v", err)
	}
	bad := write(t, dir, "bad.toml", "include = [\"typo.toml\"]\n")
	typo := write(t, dir, "typo.toml", "nme = \"x\"\n")
	if _, err := Load(bad); err == nil || !strings.HasPrefix(err.Error(), typo+":1: ") {
		t.Errorf("a mistake in an included file gave %v", err)
	}
	// Each includes the next twice: 2^20 reads, were there no limit.
	for i := range 20 {
		next := "i" + strings.Repeat("x", i+1) + ".toml"
		write(t, dir, "i"+strings.Repeat("x", i)+".toml", "include = [\""+next+"\", \""+next+"\"]\n")
	}
	write(t, dir, "i"+strings.Repeat("x", 20)+".toml", "")
	if _, err := Load(filepath.Join(dir, "i.toml")); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too many includes gave %v", err)
	}
}

func TestIncomplete(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "no name",
		"name = \"a\"\n":                         "no base",
		"name = \"a\"\n[base]\nkind = \"oci\"\n": "base.image",
		"name = \"a\"\n[base]\nkind = \"directory\"\n":                                                        "base.path",
		"name = \"a\"\n[base]\nkind = \"oci\"\nimage = \"x\"\npackages = [\"aa\"]\n":                          "base.packages",
		"name = \"a\"\n[base]\nkind = \"debian\"\nimage = \"x\"\n":                                            "base.image",
		"name = \"a\"\n[base]\nkind = \"debian\"\npath = \"x\"\n":                                             "base.path",
		"name = \"a\"\n[base]\nkind = \"directory\"\npath = \"x\"\n[kernel]\npackage=\"linux-image-amd64\"\n": "kernel.package",
		"name = \"a\"\n[base]\nkind = \"debian\"\n[update]\nrepository = \"registry.example/acme/a\"\n":       "no trust.root: machines take nothing that is not signed",
	} {
		if _, err := Load(write(t, t.TempDir(), "r.toml", text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gave %v, want %q", text, err, want)
		}
	}
}

func TestInputsDigest(t *testing.T) {
	base := "name = \"a\"\n[base]\nkind = \"debian\"\npackages = [\"p1\"]\n"
	load := func(text string) string {
		r, err := Load(write(t, t.TempDir(), "r.toml", text))
		if err != nil {
			t.Fatal(err)
		}
		return r.InputsDigest()
	}
	want := load(base)
	for _, same := range []string{
		base + "mirror = \"http://elsewhere/debian\"\n", "version = \"2\"\n" + base, base + "[[files]]\npath = \"/a\"\ncontent = \"\"\n",
		base + "[trust]\nroot = \"keys/root.json\"\n",
	} {
		if load(same) != want {
			t.Errorf("%q changes the digest of the inputs", same)
		}
	}
	for _, other := range []string{
		strings.Replace(base, "p1", "p2", 1), base + "suite = \"sid\"\n", base + "[kernel]\npackage = \"linux-image-amd64\"\n",
	} {
		if load(other) == want {
			t.Errorf("%q does not change the digest of the inputs", other)
		}
	}
}

// An image that accepts parameters from firmware says so in its recipe, and a
// recipe that includes it can take that back.
func TestForeign(t *testing.T) {
	dir := t.TempDir()
	base := "name = \"a\"\n[base]\nkind = \"debian\"\n"
	open := write(t, dir, "open.toml", base+"[kernel]\narguments = [\"quiet\"]\n[boot]\nforeign = \"accept\"\n")
	closed := write(t, dir, "closed.toml", "name = \"b\"\ninclude = [\"open.toml\"]\n[boot]\nforeign = \"refuse\"\n")
	for path, want := range map[string][]string{open: {"quiet", "panic=10"}, closed: {"quiet", "panic=10", "systemd.import_credentials=no", "--"}} {
		r, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.CommandLine(); !reflect.DeepEqual(got, want) || r.RefusesForeign() != (path == closed) {
			t.Errorf("%s: command line %q, refuses %v, want %q", filepath.Base(path), got, r.RefusesForeign(), want)
		}
	}
}
